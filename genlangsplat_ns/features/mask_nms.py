"""Non-maximum suppression of masks, as LangSplat does it after SAM's own one on boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.features.regions import RegionMask
from genlangsplat_ns.utils.matrix_products import onednn_matmul

CONTAINED = 0.85
"""A mask lies within another when at least this share of it does ..."""

CONTAINING = 0.5
"""... and when it covers less than this share of the other."""

BAND_BYTES = 16_000_000
"""Memory for the pixels of all masks in one band of rows: about what the caches hold."""


def mask_nms(
    masks: Sequence[RegionMask],
    scores: Float[Tensor, " num_masks"],
    iou_threshold: float,
    score_threshold: float,
    inner_threshold: float,
    device: torch.device | str = "cpu",
) -> Bool[Tensor, " num_masks"]:
    """Decides which masks of one level stay.

    A mask goes when its score is not above `score_threshold`; when a better scored one overlaps it by more than
    `iou_threshold`; or when it lies within another one, whatever their scores, and one minus the product of the shares
    they have of each other exceeds one minus `inner_threshold`. Masks that go themselves still make others go. Where
    LangSplat's code would keep three masks if none stayed, and raises instead, nothing stays.

    Args:
        masks: The masks.
        scores: Their scores: SAM's rating times its stability.
        iou_threshold: Largest intersection over union with a better one.
        score_threshold: Score a mask must exceed.
        inner_threshold: How much of an overlap the rule for masks within masks forgives.
        device: Where products of matrices run.

    Returns:
        Which masks stay, in the order given (LangSplat paints them in that order, not by score).
    """
    scores = scores.double().cpu()
    if not masks:
        return torch.zeros(0, dtype=torch.bool)
    order = scores.argsort(descending=True, stable=True)
    ordered = [masks[int(index)] for index in order]
    intersection = intersections(ordered, device).double()
    areas = intersection.diagonal().clamp(min=1)
    iou = intersection / (areas[:, None] + areas[None] - intersection)
    share = intersection / areas[:, None]
    within = (share >= CONTAINED) & (share.T < CONTAINING) & (1 - share * share.T > 1 - inner_threshold)
    overlapped = (iou.triu(diagonal=1) > iou_threshold).any(dim=0)
    keep = torch.empty(len(masks), dtype=torch.bool)
    keep[order] = (scores[order] > score_threshold) & ~overlapped & ~within.any(dim=1)
    return keep


def intersections(
    masks: Sequence[RegionMask], device: torch.device | str = "cpu"
) -> Float[Tensor, "num_masks num_masks"]:
    """Number of pixels that every pair of masks shares.

    The view is taken in bands of rows; in each, the masks that reach into it are one matrix, and its product with its
    own transpose adds to the result. fp32 counts exactly up to 16 million pixels a band.
    """
    shared = torch.zeros(len(masks), len(masks), device=device)
    tops = np.array([mask.top for mask in masks])
    bottoms = np.array([mask.box[0].stop for mask in masks])
    left, right = min(mask.left for mask in masks), max(mask.box[1].stop for mask in masks)
    height = max(1, BAND_BYTES // (4 * (right - left) * len(masks)))
    for top in range(int(tops.min()), int(bottoms.max()), height):
        bottom = min(top + height, int(bottoms.max()))
        inside = ((tops < bottom) & (bottoms > top)).nonzero()[0]
        pixels = np.zeros((len(inside), bottom - top, right - left), dtype=np.bool_)
        for row, number in enumerate(inside):
            mask = masks[number]
            first, last = max(mask.top, top), min(mask.box[0].stop, bottom)
            columns = slice(mask.left - left, mask.box[1].stop - left)
            pixels[row, first - top : last - top, columns] = mask.inside[first - mask.top : last - mask.top]
        band = torch.from_numpy(pixels).to(device).flatten(1).float()
        with onednn_matmul():
            product = band @ band.T
        numbers = torch.from_numpy(inside).to(device)
        shared[numbers[:, None], numbers[None]] += product
    return shared.cpu()
