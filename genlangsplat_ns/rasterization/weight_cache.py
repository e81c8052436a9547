"""Compositing weights of many views within a budget of memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from genlangsplat_ns.rasterization.weights import CompositingWeights


class WeightCache:
    """Keeps the weights of the first views that fit; those of all others are extracted anew at every use.

    Views are visited in rounds. Dropping the view that was used longest ago would then always drop the one that is
    wanted next, and keep nothing.

    Args:
        budget: Bytes that the kept weights may take together.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._kept: dict[Hashable, CompositingWeights] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, view: Hashable, extract: Callable[[], CompositingWeights]) -> CompositingWeights:
        """Returns the weights of a view, from memory or from `extract`."""
        if view in self._kept:
            return self._kept[view]
        weights = extract()
        if self.nbytes + weights.nbytes <= self.budget:
            self._kept[view] = weights
            self.nbytes += weights.nbytes
        return weights
