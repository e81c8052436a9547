"""ScanNet as a source of frames, in the form it is shipped (`.sens` recordings) or exported (folders of pictures)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.photographs import read_photograph
from genlangsplat_ns.utils.progress import track
from pretrain.sens_file import SensFile
from pretrain.sources import Frame, check_max_side, source_folder

__all__ = ["HELD_OUT_SCENES", "ExportedScene", "ScanNetSource", "SensFile", "Survey"]

HELD_OUT_SCENES: tuple[str, ...] = tuple(
    f"scene{number}_00" for number in ("0000", "0062", "0070", "0097", "0140", "0200", "0347", "0400", "0590", "0645")
)
"""The scenes on which methods are compared in 3D; whoever trains on them has seen the test."""

Split = Literal["train", "held_out", "all"]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")

_SCENE_NAME = re.compile(r"(scene\d{4})_\d{2}")

_BASES = (".", "scans", "scans_test")
"""Folders below a copy of ScanNet that hold scenes."""


@dataclass(frozen=True, eq=False)
class ExportedScene:
    """A scene as ScanNet's tools export it: `color/NUMBER.jpg`, `pose/NUMBER.txt`, `intrinsic/intrinsic_color.txt`.

    Attributes:
        folder: The folder of the scene.
        pictures: Path of every color picture by the number of its frame.
        has_poses: Whether there is a folder of poses; without one every frame counts as tracked.
    """

    folder: Path
    pictures: dict[int, Path]
    has_poses: bool

    @classmethod
    def open(cls, folder: Path) -> ExportedScene:
        """Lists the pictures of a scene.

        Raises:
            GenLangSplatError: If there are none, or the folder cannot be read.
        """
        try:
            paths = sorted((folder / "color").iterdir())
        except OSError as error:
            raise GenLangSplatError(
                f"{folder / 'color'} cannot be read ({error.strerror}). Export the scene again."
            ) from error
        pictures = {int(path.stem): path for path in paths if _is_numbered_picture(path)}
        if not pictures:
            raise GenLangSplatError(
                f"{folder / 'color'} holds no picture that is named by a number, as 0.jpg. Export the scene again."
            )
        return cls(folder, pictures, (folder / "pose").is_dir())

    @property
    def color_intrinsic(self) -> Float32[np.ndarray, "4 4"] | None:
        """Projection of the color camera, or None where it was not exported."""
        return _read_matrix(self.folder / "intrinsic" / "intrinsic_color.txt")

    def pose(self, number: int) -> Float32[np.ndarray, "4 4"] | None:
        """From camera to world, or None where tracking was lost or the pose cannot be read."""
        pose = _read_matrix(self.folder / "pose" / f"{self.pictures[number].stem}.txt")
        return pose if pose is not None and np.isfinite(pose).all() else None

    def color(self, number: int, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
        """Reads the color picture of one frame.

        Raises:
            GenLangSplatError: If there is no such frame, or its picture is damaged.
        """
        if number not in self.pictures:
            raise GenLangSplatError(f"{self.folder / 'color'} holds no picture of frame {number}. Export it again.")
        return read_photograph(self.pictures[number], "Export the scene again.", max_side)


@dataclass(frozen=True)
class Survey:
    """What there is to read, and what was left out.

    Attributes:
        frames: The frames, sorted by key.
        lost: How many frames were left out because their pose is missing or not finite.
        problems: What is wrong with a scene, by its name. A recording that breaks off still gives its whole frames;
            other scenes with a problem give none.
    """

    frames: list[Frame]
    lost: int = 0
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScanNetSource:
    """The color pictures of a copy of ScanNet.

    A frame keeps its key whether its scene is read from the recording or from an exported folder; where there are both,
    the recording is read.

    Attributes:
        root: Folder that holds the scenes, itself or in `scans`.
        stride: Of the frames as recorded, those whose number is a multiple of this are taken.
        split: train leaves out the benchmarks' scenes and every other scan of their rooms, held_out is the benchmarks'
            scenes, all is everything.
        scenes: File with one scene name a line; without it all scenes of the split are taken.
        max_side: Limit of the long side; larger pictures are shrunk.
        name: Name of the source.
    """

    root: Path
    stride: int = 20
    split: Split = "train"
    scenes: Path | None = None
    max_side: int | None = None
    name: str = "scannet"

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise GenLangSplatError(f"The stride is {self.stride}. Give 1 to take every frame, or more to skip some.")
        if self.split not in get_args(Split):
            raise GenLangSplatError(f"The split is {self.split!r}. Choose one of {', '.join(get_args(Split))}.")
        check_max_side(self.max_side)
        object.__setattr__(self, "root", source_folder(self.root))

    def frames(self) -> list[Frame]:
        """Lists the frames, and says on the console what was left out.

        Raises:
            GenLangSplatError: If there is no frame, or the file of scenes cannot be used.
        """
        survey = self.survey()
        for problem in survey.problems.values():
            CONSOLE.print(f"[yellow]{escape(problem)}")
        if not survey.frames:
            raise GenLangSplatError(
                f"None of the {len(survey.problems)} damaged scenes and {survey.lost} frames without a pose that were "
                f"found in {self.root} can be used. Download the scenes again, or take a smaller stride."
            )
        left_out = f"; {survey.lost} without a pose were left out" if survey.lost else ""
        CONSOLE.print(
            f"ScanNet: {len(survey.frames)} frames of {len({f.scene for f in survey.frames})} scenes{left_out}"
        )
        return survey.frames

    def survey(self) -> Survey:
        """Goes through all scenes, and notes those that cannot be used instead of stopping at them.

        Raises:
            GenLangSplatError: If no scene is found, or the file of scenes cannot be used.
        """
        frames: list[Frame] = []
        lost = 0
        problems: dict[str, str] = {}
        for scene in track(self._scene_names(), "Listing ScanNet"):
            try:
                numbers, num_all, problem = self._tracked_numbers(scene)
            except GenLangSplatError as error:
                problems[scene] = str(error)
                continue
            if problem is not None:
                problems[scene] = problem
            lost += num_all - len(numbers)
            frames += [Frame(f"{scene}/{number:06d}", scene) for number in numbers]
        return Survey(sorted(frames), lost, problems)

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"]:
        """Reads the picture of one frame.

        Raises:
            GenLangSplatError: If it is damaged or no longer there.
        """
        number = int(frame.key.rpartition("/")[2])
        return torch.from_numpy(self._open(frame.scene).color(number, self.max_side))

    def _tracked_numbers(self, scene: str) -> tuple[list[int], int, str | None]:
        """Numbers of the frames with a pose, how many there are with those without one, and what is wrong."""
        opened = self._open(scene)
        if isinstance(opened, SensFile):
            tracked = opened.tracked[:: self.stride]
            return [self.stride * int(place) for place in tracked.nonzero()[0]], len(tracked), opened.problem
        numbers = [number for number in opened.pictures if number % self.stride == 0]
        kept = [number for number in numbers if not opened.has_poses or opened.pose(number) is not None]
        return kept, len(numbers), None

    def _open(self, scene: str) -> SensFile | ExportedScene:
        path = self._scene_path(scene)
        if path is None:
            raise GenLangSplatError(
                f"{self.root} no longer holds {scene}. Put {scene}.sens or its exported folder back there."
            )
        listed = path if path.is_file() else path / "color"
        return _opened(path, listed.stat().st_mtime_ns)

    def _scene_path(self, scene: str) -> Path | None:
        """The recording of a scene, or else the folder it was exported to."""
        bases = [self.root / base for base in _BASES]
        recordings = [base / place for base in bases for place in (f"{scene}/{scene}.sens", f"{scene}.sens")]
        exported = [base / scene for base in bases]
        return next(
            (path for path in recordings if path.is_file()),
            next((path for path in exported if (path / "color").is_dir()), None),
        )

    def _scene_names(self) -> list[str]:
        """Names of the scenes that are there and asked for."""
        found = {
            path.name.removesuffix(".sens")
            for base in _BASES
            if (self.root / base).is_dir()
            for path in (self.root / base).iterdir()
        }
        there = {name for name in found if _SCENE_NAME.fullmatch(name) and self._scene_path(name) is not None}
        if not there:
            raise GenLangSplatError(
                f"{self.root} holds no scene of ScanNet, neither scene0000_00/scene0000_00.sens nor "
                "scene0000_00/color/, itself or in scans/. Give the folder that ScanNet was downloaded to."
            )
        asked = there if self.scenes is None else self._listed_scenes(there)
        kept = sorted(name for name in asked if _belongs(name, self.split))
        if self.split == "train" and len(kept) < len(asked):
            held_out = sorted(asked - set(kept))
            CONSOLE.print(f"Held out, as 3D benchmarks use their rooms: {_shorten(held_out)}.")
        if not kept:
            raise GenLangSplatError(
                f"None of the {len(asked)} scenes found in {self.root} belongs to the split {self.split!r}. "
                "Choose another split, or add scenes."
            )
        return kept

    def _listed_scenes(self, there: set[str]) -> set[str]:
        """The scenes of the file that are there; the others are named on the console."""
        assert self.scenes is not None
        try:
            lines = self.scenes.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise GenLangSplatError(
                f"{self.scenes} cannot be read ({error}). Give a text file with one scene name a line."
            ) from error
        wrong = [line for line in lines if not _SCENE_NAME.fullmatch(line)]
        if wrong or not lines:
            raise GenLangSplatError(
                f"{self.scenes} should hold one scene name a line, as scene0001_00, "
                f"but {f'has {_shorten(wrong)}' if wrong else 'is empty'}. Correct the file."
            )
        listed = set(lines)
        missing = sorted(listed - there)
        if len(missing) == len(listed):
            raise GenLangSplatError(
                f"None of the scenes in {self.scenes} ({_shorten(missing)}) is in {self.root}. Download them, or "
                "give the list that belongs to this folder."
            )
        if missing:
            CONSOLE.print(
                f"[yellow]{len(missing)} of the {len(listed)} scenes in {escape(str(self.scenes))} are not in "
                f"{escape(str(self.root))}: {_shorten(missing)}."
            )
        return listed & there


@lru_cache(maxsize=8)
def _opened(path: Path, modified: int) -> SensFile | ExportedScene:
    """An open scene, kept because the frames of one scene are loaded one after the other."""
    return SensFile.open(path, strict=False) if path.suffix == ".sens" else ExportedScene.open(path)


def _belongs(scene: str, split: Split) -> bool:
    if split == "train":
        return scene[:9] not in {held_out[:9] for held_out in HELD_OUT_SCENES}
    return split == "all" or scene in HELD_OUT_SCENES


def _is_numbered_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and path.stem.isascii() and path.stem.isdigit()


def _read_matrix(path: Path) -> Float32[np.ndarray, "4 4"] | None:
    try:
        matrix = np.array(path.read_text(encoding="utf-8").split(), dtype=np.float32)
    except (OSError, ValueError):
        return None
    return matrix.reshape(4, 4) if matrix.size == 16 else None


def _shorten(names: Iterable[str], shown: int = 5) -> str:
    """The first few of many names."""
    listed = list(names)
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more
