"""Compositing weights of many views within a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from genlangsplat_ns.rasterization.weights import CompositingWeights


class WeightCache:
    """Keeps the weights of the first views that fit into `budget` bytes; those of others are extracted at every use.

    Views are used in rounds, where the least recently used view is the one that is needed next, so none is evicted.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._kept: dict[Hashable, CompositingWeights] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, view: Hashable, extract: Callable[[], CompositingWeights]) -> CompositingWeights:
        """Returns the weights of a view, from the cache or from `extract`."""
        if view in self._kept:
            return self._kept[view]
        weights = extract()
        if self.nbytes + weights.nbytes <= self.budget:
            self._kept[view] = weights
            self.nbytes += weights.nbytes
        return weights
