"""Codebooks: a few hundred numbers, or some thousand vectors, that stand for all others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

ITERATIONS = 30
"""Steps of the codebook of numbers."""

ROUNDING = 1e-6
"""Vectors that differ by less than this share of the largest number are not told apart."""


def number_codebook(
    values: Float[np.ndarray, "*shape"], size: int = 256
) -> tuple[Float64[np.ndarray, " size"], Int64[np.ndarray, "*shape"]]:
    """Returns `size` ascending numbers with a small squared distance to the values, and the index of each value's.

    Half of the first numbers are quantiles, which follow the values, and half are evenly spaced, which bounds the error
    of rare ones. Both are then moved to the means of their values.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    sums = np.concatenate([np.zeros(1), np.cumsum(ordered)])
    even = np.linspace(ordered[0], ordered[-1], size - size // 2)
    quantiles = ordered[np.linspace(0, len(ordered) - 1, size // 2).round().astype(np.int64)]
    book = np.sort(np.concatenate([even, quantiles]))
    for _ in range(ITERATIONS):
        ends = np.searchsorted(ordered, _borders(book), side="right")
        bounds = np.concatenate([np.zeros(1, np.int64), ends, np.full(1, len(ordered))])
        counts = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(counts, 1)
        book = np.sort(np.where(counts > 0, means, book))
    return book, np.searchsorted(_borders(book), values, side="left")


def vector_codebook(
    vectors: Float32[np.ndarray, "count numbers"], size: int
) -> tuple[Float32[np.ndarray, "size numbers"], Int64[np.ndarray, " count"]]:
    """Returns at most `size` vectors that stand for all, and the index of each vector's.

    Groups are halved at the mean of their widest dimension until there are `size` of them, those with the largest
    squared error first, and the means of the groups stand for them. If `size` suffices, every vector stands for itself.
    """
    count = len(vectors)
    if count <= size:
        return vectors, np.arange(count)
    labels = np.zeros(count, dtype=np.int64)
    num_groups = 1
    smallest = np.square(ROUNDING * float(np.abs(vectors).max()))
    while True:
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], np.arange(num_groups))
        sizes = np.diff(np.append(starts, count))[:, None]
        ordered = vectors[order]
        means = (np.add.reduceat(ordered, starts) / sizes).astype(np.float32)
        ordered -= means[labels[order]]
        errors = np.add.reduceat(np.square(ordered, out=ordered), starts)
        total = errors.sum(axis=1)
        # Half of the groups that can be split, so that the largest errors come first; all of them at the beginning.
        can_split = np.flatnonzero(errors.max(axis=1) > smallest * sizes[:, 0])
        wanted = min(size - num_groups, len(can_split) if num_groups < size // 16 else -(-len(can_split) // 2))
        if wanted == 0:
            return means, labels
        chosen = can_split[np.argsort(-total[can_split], kind="stable")[:wanted]]
        axes = errors[chosen].argmax(axis=1)
        new_label = np.full(num_groups, -1, dtype=np.int64)
        new_label[chosen] = num_groups + np.arange(wanted)
        axis, border = np.zeros(num_groups, dtype=np.int64), np.zeros(num_groups, dtype=np.float32)
        axis[chosen], border[chosen] = axes, means[chosen, axes]
        moves = (new_label[labels] >= 0) & (vectors[np.arange(count), axis[labels]] > border[labels])
        if not moves.any():
            return means, labels
        labels = np.where(moves, new_label[labels], labels)
        occupied = np.bincount(labels, minlength=num_groups + wanted) > 0
        labels = (np.cumsum(occupied) - 1)[labels]
        num_groups = int(np.count_nonzero(occupied))


def _borders(book: Float64[np.ndarray, " size"]) -> Float64[np.ndarray, " borders"]:
    return (book[1:] + book[:-1]) / 2
