"""Rays into a scene, along which the viewer and the page look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Ray(Protocol):
    """A ray into the scene: a `SceneRay`, or nerfstudio's `ViewerClick`."""

    @property
    def origin(self) -> tuple[float, float, float]:
        """Where it starts, in the frame of the run."""
        ...

    @property
    def direction(self) -> tuple[float, float, float]:
        """Its direction, of any length but zero."""
        ...


@dataclass(frozen=True)
class SceneRay:
    """A ray in the frame of the run: of a click on the page, or from a view to a place."""

    origin: tuple[float, float, float]
    direction: tuple[float, float, float]
