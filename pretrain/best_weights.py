"""Keeps the best weights of a training, and decides on early stopping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Measurement:
    """Weights after a step, and their mean cosine on the held-out embeddings."""

    step: int
    cosine: float
    weights: Weights


class BestWeights:
    """Keeps the weights of the best measurement in `best`, and (step, cosine) of all measurements in `cosines`.

    Args:
        patience: Consecutive measurements without improvement after which training stops; 0 for never.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._without_gain = 0
        self.best: Measurement | None = None
        self.cosines: list[tuple[int, float]] = []

    @property
    def should_stop(self) -> bool:
        """Whether training should stop."""
        return 0 < self._patience <= self._without_gain

    def update(self, step: int, cosine: float, weights: Callable[[], Weights]) -> None:
        """Adds a measurement; calls `weights` only if it is the best so far."""
        self.cosines.append((step, cosine))
        self._without_gain += 1
        if self.best is None or cosine > self.best.cosine:
            self.best, self._without_gain = Measurement(step, cosine, weights()), 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint."""
        best = None if self.best is None else vars(self.best)
        return {"without_gain": self._without_gain, "best": best, "cosines": self.cosines}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state from a checkpoint."""
        self._without_gain = state["without_gain"]
        self.best = None if state["best"] is None else Measurement(**state["best"])
        self.cosines = [(step, cosine) for step, cosine in state["cosines"]]
