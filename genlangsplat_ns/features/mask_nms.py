"""LangSplat's non-maximum suppression of masks, which follows SAM's box suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.features.regions import RegionMask
from genlangsplat_ns.utils.matrix_products import onednn_matmul

CONTAINED = 0.85
"""Minimum fraction of a mask inside another one for it to count as contained."""

CONTAINING = 0.5
"""A contained mask covers less than this fraction of the other one."""

BAND_BYTES = 16_000_000
"""Memory for the pixels of all masks in one band of rows, about the size of the CPU caches."""


def mask_nms(
    masks: Sequence[RegionMask],
    scores: Float[Tensor, " num_masks"],
    iou_threshold: float,
    score_threshold: float,
    inner_threshold: float,
    device: torch.device | str = "cpu",
) -> Bool[Tensor, " num_masks"]:
    """Selects the masks of one level that are kept.

    A mask is removed if its score is not above `score_threshold`, if its IoU with a mask of higher score exceeds
    `iou_threshold`, or if it is contained in another mask of any score and the product of their overlap fractions is
    below `inner_threshold`. Removed masks still suppress others. If no mask is left, LangSplat's code intends to keep
    three but raises an error; here none is kept.

    Args:
        scores: Predicted IoU times stability of each mask.

    Returns:
        Whether each mask is kept, in the given order (LangSplat paints masks in that order, not by score).
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
    """Returns the number of common pixels of each pair of masks.

    The view is processed in bands of rows: the masks that intersect a band form a matrix, and its product with its
    transpose is added to the result. fp32 counts exactly up to 16 million pixels per band.
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
