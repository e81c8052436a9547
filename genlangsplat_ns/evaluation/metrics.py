"""Metrics of masks and peaks against labels, and their means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.evaluation.labels import CategoryTruth, Mask


def intersection_over_union(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks; 1 if both are empty."""
    union = np.count_nonzero(a | b)
    return 1.0 if union == 0 else np.count_nonzero(a & b) / union


def is_hit(peaks: Iterable[tuple[int, int]], truth: CategoryTruth, target: Literal["outline", "box"]) -> bool:
    """Whether any of the peaks (x, y) is on the object: in its `outline`, or in one of its boxes (`box`, inclusive)."""
    if target == "outline":
        return any(bool(truth.mask[y, x]) for x, y in peaks)
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x, y in peaks for x0, y0, x1, y1 in truth.boxes)


def micro_mean(groups: Mapping[str, Sequence[float]]) -> float:
    """Mean over the values of all groups, so groups with more values have more weight."""
    return float(np.mean([value for group in groups.values() for value in group]))


def macro_mean(groups: Mapping[str, Sequence[float]]) -> float:
    """Mean of the group means, so every group (a scene or a text) has the same weight. Ignores empty groups."""
    return float(np.mean([float(np.mean(group)) for group in groups.values() if len(group)]))


def psnr(
    prediction: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"], kept: Bool[Tensor, "*pixels"] | None = None
) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in decibels for colors in 0 to 1; capped at 100 for equal images.

    With `kept`, the images are (height, width, 3), and only these pixels count.
    """
    difference = prediction - truth if kept is None else prediction[kept] - truth[kept]
    return -10 * difference.square().mean().clamp_min(1e-10).log10()
