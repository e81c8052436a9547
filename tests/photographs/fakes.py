"""Stands in for COLMAP: keeps what it was asked in a file, and gives cameras on a circle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from genlangsplat_ns.photographs.exif import ShotData
from genlangsplat_ns.photographs.lens_groups import LensGroup
from genlangsplat_ns.photographs.prepare import PreparedPhotograph
from genlangsplat_ns.photographs.solver import SolvedLens, SolvedModel, SolvedPhotograph, name_pair
from tests.views.scene_files import ellipse_poses

SIZE = (48, 36)


def write_photographs(folder: Path, names: Sequence[str], size: tuple[int, int] = SIZE) -> None:
    """Writes pictures of noise, all different."""
    generator = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(path)


def prepared(name: str, sharpness: float = 100.0, size: tuple[int, int] = SIZE, **shot: object) -> PreparedPhotograph:
    """A prepared photograph without a file."""
    return PreparedPhotograph(name, *size, digest=name, sharpness=sharpness, shot=ShotData(**shot))


def solved(names: Sequence[str], lenses: dict[int, SolvedLens] | None = None, points: int = 50) -> SolvedModel:
    """A model of cameras on an ellipse around the origin, in COLMAP's axes, and random points."""
    photographs = []
    for name, pose in zip(names, ellipse_poses(len(names)), strict=True):
        rotation = (pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])).T
        photographs.append(SolvedPhotograph(name, 1, rotation, -rotation @ pose[:3, 3], points))
    generator = np.random.default_rng(0)
    colors = generator.integers(0, 255, (points, 3), dtype=np.uint8)
    lenses = lenses or {1: SolvedLens("SIMPLE_RADIAL", *SIZE, (40.0, 24.0, 18.0, 0.01))}
    return SolvedModel(lenses, photographs, generator.normal(size=(points, 3)), colors, 0.5)


class FakeSolver:
    """Finds a camera for every photograph except those named in `lost`.

    What it is asked is in `asked`, for all solvers together; features and matches are kept in the database, as COLMAP
    keeps them.
    """

    asked: list[tuple[str, int]]
    lost: frozenset[str] = frozenset()
    interrupt: str = ""
    """A stage at which the process is interrupted."""

    def __init__(self, database: Path, images: Path, masks: Path) -> None:
        self._database, self._images, self._masks = database, images, masks
        self._kept = json.loads(database.read_text()) if database.is_file() else {"features": {}, "matched": []}
        self._lenses = 0

    @classmethod
    def fresh(cls, **changed: object) -> type[FakeSolver]:
        """A solver class of its own, so that tests do not see each other's calls."""
        return type("Solver", (cls,), {"asked": [], **changed})

    def _note(self, stage: str, count: int) -> None:
        if self.interrupt == stage:
            raise KeyboardInterrupt
        self.asked.append((stage, count))
        self._database.write_text(json.dumps(self._kept))

    def add_lens(self, group: LensGroup) -> int:
        self._lenses += 1
        return self._lenses

    def extract(self, names: Sequence[str], lens: int, max_features: int) -> None:
        assert all((self._images / name).is_file() for name in names)
        self._kept["features"] |= {name: 500 for name in names}
        self._note("extract", len(names))

    def features(self) -> dict[str, int]:
        return dict(self._kept["features"])

    def descriptors(self, name: str) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 255, (20, 128), dtype=np.uint8)

    def match(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._kept["matched"] += [list(name_pair(*pair)) for pair in pairs]
        self._note("match", len(pairs))

    def compared(self, pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        return {pair for pair in pairs if list(pair) in self._kept["matched"]}

    def matched(self) -> dict[tuple[str, str], int]:
        return {(first, second): 100 for first, second in self._kept["matched"]}

    def solve(self, names: Sequence[str], output: Path, placed: Callable[[int], None]) -> list[SolvedModel]:
        self._note("solve", len(names))
        placed(len(names))
        return [solved([name for name in sorted(names) if name not in self.lost])]
