"""Orders Gaussians so that neighbors in space are neighbors in the file, for files that store groups of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

GROUP = 256
"""Number of Gaussians in a group."""

MUCH_SMALLER = 0.5
"""Two parts of unequal size must be so much smaller than two halves to be preferred to them."""


def spatial_order(positions: Float[np.ndarray, "count 3"]) -> Int64[np.ndarray, " count"]:
    """Returns an order in which every `GROUP` consecutive points lie close together.

    All points are cut in two across one axis, then both parts, and so on. A cut is in the middle, unless another one
    leaves much smaller boxes: far points must not share a group with those of the scene. A million points take about
    five seconds.
    """
    order = np.arange(len(positions))
    pending = [(0, len(positions))]
    while pending:
        first, end = pending.pop()
        if end - first > GROUP:
            order[first:end], cut = _cut(order[first:end], positions)
            pending += [(first, first + cut), (first + cut, end)]
    return order


def _cut(
    indices: Int64[np.ndarray, " count"], positions: Float[np.ndarray, "all 3"]
) -> tuple[Int64[np.ndarray, " count"], int]:
    """Returns indices in the order of the best axis, and the size of the first part, a whole number of groups."""
    points = positions[indices]
    starts = np.arange(0, len(indices), GROUP)
    best = (np.inf, indices, GROUP)
    for axis in range(3):
        along = np.argsort(points[:, axis])
        low, high = (end.reduceat(points[along], starts) for end in (np.minimum, np.maximum))
        before = (np.maximum.accumulate(high) - np.minimum.accumulate(low)).sum(axis=1)[:-1]
        after = (np.maximum.accumulate(high[::-1]) - np.minimum.accumulate(low[::-1])).sum(axis=1)[::-1][1:]
        # The sizes of the two boxes, by how many points they have.
        sizes = before * starts[1:] + after * (len(indices) - starts[1:])
        middle, smallest = (len(sizes) - 1) // 2, int(sizes.argmin())
        chosen = smallest if sizes[smallest] < MUCH_SMALLER * sizes[middle] else middle
        if sizes[chosen] < best[0]:
            best = (sizes[chosen], indices[along], int(starts[1 + chosen]))
    return best[1:]
