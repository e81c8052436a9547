"""Which pairs of photographs are compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations, groupby

import numpy as np

Pair = tuple[int, int]
"""Indices of two photographs, the lower one first."""

OVERLAP = 10
"""Each photograph is compared with as many next ones, and with those 2, 4, 8, ... places further, as in COLMAP."""

NEIGHBORS = 20
"""Each photograph is compared with as many nearest ones by position or similarity."""

TILE = 16
"""Photographs are compared in blocks of as many by as many, because their features are prepared once a block."""


def exhaustive_pairs(count: int) -> set[Pair]:
    """Returns all pairs."""
    return set(combinations(range(count), 2))


def sequential_pairs(count: int) -> set[Pair]:
    """Returns the pairs of neighbors in order."""
    steps = {*range(1, OVERLAP + 1), *(2**power for power in range(OVERLAP))}
    return {(index, index + step) for index in range(count) for step in steps if index + step < count}


def spatial_pairs(positions: Sequence[tuple[float, float] | None]) -> set[Pair]:
    """Returns pairs of nearest photographs by latitude and longitude in degrees; None is an unknown position."""
    known = [(index, position) for index, position in enumerate(positions) if position is not None]
    if len(known) < 2:
        return set()
    degrees = np.array([position for _, position in known])
    flat = degrees * [1.0, math.cos(math.radians(float(degrees[:, 0].mean())))]
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    return nearest_pairs(-distances, [index for index, _ in known])


def nearest_pairs(closeness: np.ndarray, indices: Sequence[int], neighbors: int = NEIGHBORS) -> set[Pair]:
    """Returns the pairs of each photograph with those that are closest to it, by a square matrix of closeness."""
    closeness = closeness.copy()
    np.fill_diagonal(closeness, -np.inf)
    closest = np.argsort(-closeness, axis=1, kind="stable")[:, : min(neighbors, len(closeness) - 1)]
    found = ((indices[row], indices[int(column)]) for row, columns in enumerate(closest) for column in columns)
    return {(min(pair), max(pair)) for pair in found}


def in_tiles(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Sorts pairs into blocks, in which the same few photographs occur."""

    def tile(pair: Pair) -> Pair:
        return pair[0] // TILE, pair[1] // TILE

    return [list(members) for _, members in groupby(sorted(pairs, key=lambda pair: (tile(pair), pair)), key=tile)]
