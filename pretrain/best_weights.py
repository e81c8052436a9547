"""Which weights of a training are kept, and when further training is in vain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Measured:
    """Weights and the mean cosine that they reach on the held-out embeddings after a step."""

    step: int
    cosine: float
    weights: Weights


class BestWeights:
    """Keeps the weights of the best measurement.

    Args:
        patience: Measurements in a row without a better one after which training is in vain; 0 for never.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._without_gain = 0
        self.best: Measured | None = None
        self.cosines: list[tuple[int, float]] = []

    @property
    def should_stop(self) -> bool:
        """Whether training should stop."""
        return 0 < self._patience <= self._without_gain

    def take(self, step: int, cosine: float, weights: Callable[[], Weights]) -> None:
        """Takes in a measurement; `weights` is only called when it is the best so far."""
        self.cosines.append((step, cosine))
        self._without_gain += 1
        if self.best is None or cosine > self.best.cosine:
            self.best, self._without_gain = Measured(step, cosine, weights()), 0

    def state_dict(self) -> dict[str, Any]:
        """Gives what a checkpoint keeps."""
        best = None if self.best is None else vars(self.best)
        return {"without_gain": self._without_gain, "best": best, "cosines": self.cosines}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what a checkpoint kept."""
        self._without_gain = state["without_gain"]
        self.best = None if state["best"] is None else Measured(**state["best"])
        self.cosines = [(step, cosine) for step, cosine in state["cosines"]]
