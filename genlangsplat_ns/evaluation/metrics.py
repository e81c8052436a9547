"""Scores of masks and peaks against labels, and their means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import Box, CategoryTruth, Mask


def intersection_over_union(a: Mask, b: Mask) -> float:
    """Shared pixels over pixels in either mask; two empty masks agree and score 1."""
    union = np.count_nonzero(a | b)
    return 1.0 if union == 0 else np.count_nonzero(a & b) / union


def is_hit(peaks: Iterable[tuple[int, int]], truth: CategoryTruth, target: str) -> bool:
    """Whether any of the peaks lies on the object.

    Args:
        peaks: Pixels (x, y).
        truth: Pixels and boxes of the object.
        target: `outline` or `box`; a box includes its ends.

    Raises:
        GenLangSplatError: If the target is unknown.
    """
    if target == "outline":
        return any(bool(truth.mask[y, x]) for x, y in peaks)
    if target == "box":
        return any(_in_box(peak, box) for peak in peaks for box in truth.boxes)
    raise GenLangSplatError(f'Found the target "{target}" in a protocol; expected outline or box.')


def _in_box(peak: tuple[int, int], box: Box) -> bool:
    x, y = peak
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def micro_mean(groups: Mapping[str, Sequence[float]]) -> float:
    """Mean over all values, whatever their group: a group with more values weighs more."""
    values = [value for group in groups.values() for value in group]
    if not values:
        raise GenLangSplatError("Found no score to average; no labeled view showed anything that was asked.")
    return float(np.mean(values))


def macro_mean(groups: Mapping[str, Sequence[float]]) -> float:
    """Mean of the groups' means: every group (a scene, or a text) weighs the same. Empty groups are left out."""
    means = [float(np.mean(group)) for group in groups.values() if len(group)]
    if not means:
        raise GenLangSplatError("Found no score to average; no labeled view showed anything that was asked.")
    return float(np.mean(means))


def psnr(prediction: Float[Tensor, "height width 3"], truth: Float[Tensor, "height width 3"]) -> float:
    """Peak signal-to-noise ratio in decibels of colors in 0 to 1, at most 100 so that equal pictures have a number."""
    error = float(((prediction - truth) ** 2).mean())
    return -10 * float(np.log10(max(error, 1e-10)))
