"""What finds the cameras of photographs has to offer, and what it finds; `colmap` is the one that is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, UInt8

from genlangsplat_ns.photographs.lens_groups import LensGroup

NamePair = tuple[str, str]
"""Names of two photographs, in order."""


def name_pair(first: str, second: str) -> NamePair:
    """Returns two names in order."""
    return (first, second) if first <= second else (second, first)


@dataclass(frozen=True)
class SolvedLens:
    """A lens with the values that COLMAP found."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SolvedPhotograph:
    """The camera of a photograph: a point x of the scene is at `rotation @ x + translation` in front of it."""

    name: str
    lens: int
    rotation: Float64[np.ndarray, "3 3"]
    translation: Float64[np.ndarray, " 3"]
    points: int
    """Number of points of the scene that it sees."""


@dataclass(frozen=True, eq=False)
class SolvedModel:
    """Photographs whose cameras are known relative to each other, and points of the scene."""

    lenses: dict[int, SolvedLens]
    photographs: list[SolvedPhotograph]
    positions: Float64[np.ndarray, "points 3"]
    colors: UInt8[np.ndarray, "points 3"]
    error: float
    """Mean distance in pixels between features and the points that they show."""


@runtime_checkable
class CameraSolver(Protocol):
    """Finds the cameras of photographs in stages, whose results are kept on disk."""

    def add_lens(self, group: LensGroup) -> int:
        """Adds a lens, and returns its number."""

    def extract(self, names: Sequence[str], lens: int, max_features: int) -> None:
        """Extracts the features of photographs that share a lens."""

    def features(self) -> dict[str, int]:
        """Returns the number of features of each photograph whose features were extracted."""

    def descriptors(self, name: str) -> UInt8[np.ndarray, "features 128"]:
        """Returns the descriptors of the features of a photograph."""

    def match(self, pairs: Sequence[NamePair]) -> None:
        """Compares pairs of photographs."""

    def compared(self, pairs: Sequence[NamePair]) -> set[NamePair]:
        """Returns those of some pairs that were compared already."""

    def matched(self) -> dict[NamePair, int]:
        """Returns the number of verified matches of all pairs that have some."""

    def solve(self, names: Sequence[str], output: Path, placed: Callable[[int], None]) -> list[SolvedModel]:
        """Finds the cameras of photographs; returns models that are not connected, the largest first.

        `placed` is called with the number of photographs of the model that is being built.
        """
