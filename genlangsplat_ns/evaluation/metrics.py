"""Metrics of masks and peaks against labels, and of colors."""

from __future__ import annotations

from collections.abc import Iterable
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


def psnr(
    prediction: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"], kept: Bool[Tensor, "*pixels"] | None = None
) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in decibels for colors in 0 to 1; capped at 100 for equal images.

    With `kept`, the images are (height, width, 3), and only these pixels count.
    """
    difference = prediction - truth if kept is None else prediction[kept] - truth[kept]
    return -10 * difference.square().mean().clamp_min(1e-10).log10()
