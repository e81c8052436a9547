"""The curve of a loss over many steps, with few points."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MAX_POINTS = 128
"""When a curve has this many points, each two neighbors become one."""


class LossCurve:
    """Means of the loss over windows of equal length, which grow with the number of steps.

    The losses are added up on their device, so that no step waits for the loss.
    """

    def __init__(self) -> None:
        self._points: list[tuple[int, float]] = []
        self._window = 1
        self._sum: Tensor | None = None
        self._count = 0

    @property
    def points(self) -> list[tuple[int, float]]:
        """The last step of each complete window, and the mean loss in it."""
        return list(self._points)

    def add(self, step: int, loss: Tensor) -> None:
        """Adds the loss of a step, a scalar."""
        loss = loss.detach()
        self._sum = loss if self._sum is None else self._sum + loss
        self._count += 1
        if self._count == self._window:
            self._points.append((step, float(self._sum) / self._window))
            self._sum, self._count = None, 0
            if len(self._points) == MAX_POINTS:
                pairs = zip(self._points[::2], self._points[1::2], strict=True)
                self._points = [(end, (early + late) / 2) for (_, early), (end, late) in pairs]
                self._window *= 2
