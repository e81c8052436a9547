"""Thins point clouds evenly in space."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int64, UInt64

LOGGER = logging.getLogger(__name__)

STEPS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
"""Odd numbers that mix three integers into one key of 64 bits; two voxels practically never share a key."""

FINEST = 4096
"""Number of the smallest voxels along the middle nine tenths of a cloud."""

SAMPLE = 8
"""The size of the voxels is first estimated from this many times the wanted number of points."""


def usable_seeds(positions: Float[np.ndarray, "count 3"], limit: int | None) -> Int64[np.ndarray, " kept"]:
    """Returns the indices of the seed points that become Gaussians, and logs how many others there are.

    Points with NaN or infinity are left out, and so are further points at the same position: they would have no
    spacing, and thousands of them one opaque Gaussian. If more than `limit` points are left, they are thinned.
    """
    total = len(positions)
    kept = np.flatnonzero(np.isfinite(positions).all(axis=1))
    if len(kept) < total:
        LOGGER.warning("%s of %s seed points are dropped: NaN or infinity.", f"{total - len(kept):,}", f"{total:,}")
    distinct = kept[distinct_points(positions[kept])]
    if len(distinct) < len(kept):
        repeated = f"{len(kept) - len(distinct):,}"
        LOGGER.info("%s of %s seed points are dropped: they repeat other points.", repeated, f"{total:,}")
    if limit is None or len(distinct) <= limit:
        return distinct
    thinned = distinct[evenly_thinned(positions[distinct], limit)]
    LOGGER.info(
        "Started with %s of %s seed points, thinned evenly in space; --pipeline.model.max-gaussians limits them.",
        *(f"{len(thinned):,}", f"{total:,}"),
    )
    return thinned


def distinct_points(positions: Float[np.ndarray, "count 3"]) -> Int64[np.ndarray, " distinct"]:
    """Returns the index of the first point at each position, in the order of the points."""
    # Adding zero gives both zeros, 0.0 and -0.0, the same bits.
    bits = (positions.astype(np.float64) + 0.0).view(np.uint64)
    return np.sort(np.unique(_keys(bits.T), return_index=True)[1])


def evenly_thinned(positions: Float[np.ndarray, "count 3"], limit: int, seed: int = 0) -> Int64[np.ndarray, " kept"]:
    """Returns the indices of at most `limit` points that cover the same space, in the order of the points.

    The voxels of a grid are doubled until at most `limit` of them have points. Each of these keeps one point, so sparse
    regions stay. The rest of the limit are random voxels of half the size. Ten million points take about ten seconds
    and about 100 bytes each. The positions are finite, and the limit is at least 1.
    """
    kept = np.random.default_rng(seed).permutation(len(positions))
    if len(kept) <= limit:
        return np.arange(len(kept))
    # A few far points must not determine the size of the voxels.
    lowest, highest = np.quantile(positions[kept[:100_000]], (0.05, 0.95), axis=0)
    side = float((highest - lowest).max()) / FINEST or float(np.abs(positions).max()) * 2.0**-40 or 1.0
    # As long as a part of the points fills too many voxels, all points do.
    part = positions[kept[: SAMPLE * limit]] - lowest
    while len(first := _first_of_voxels(part, 2 * side)) > limit:
        part, side = part[first], 2 * side
    while len(first := _first_of_voxels(positions[kept] - lowest, side)) > limit:
        kept, side = kept[first], 2 * side
    others = np.ones(len(kept), dtype=bool)
    others[first] = False
    # The points are in random order.
    return np.sort(np.concatenate([kept[first], kept[others][: limit - len(first)]]))


def _first_of_voxels(positions: Float[np.ndarray, "count 3"], side: float) -> Int64[np.ndarray, " voxels"]:
    """Returns the index of the first point in each voxel that has points, in the order of the points."""
    largest = 2.0**62
    voxels = (np.clip(np.floor(positions[:, axis] / side), -largest, largest).astype(np.int64) for axis in range(3))
    return np.sort(np.unique(_keys(column.view(np.uint64) for column in voxels), return_index=True)[1])


def _keys(columns: Iterable[UInt64[np.ndarray, " count"]]) -> UInt64[np.ndarray, " count"]:
    """Mixes the integer coordinates of each point into one key; the products wrap around."""
    total = np.uint64(0)
    for column, step in zip(columns, STEPS, strict=True):
        mixed = (total ^ column) * step
        total = mixed ^ (mixed >> np.uint64(29))
    return np.asarray(total)
