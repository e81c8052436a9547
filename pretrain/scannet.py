"""ScanNet as a source of frames: `.sens` recordings or exported folders of images."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import PICTURE_SUFFIXES, read_photograph
from genlangsplat_ns.utils.progress import track
from pretrain.sens_file import SensFile
from pretrain.sources import Frame, source_folder

LOGGER = logging.getLogger(__name__)

HELD_OUT_SCENES: tuple[str, ...] = tuple(
    f"scene{number}_00" for number in ("0000", "0062", "0070", "0097", "0140", "0200", "0347", "0400", "0590", "0645")
)
"""Scenes of the 3D benchmarks. Do not train on them."""

Split = Literal["train", "held_out", "all"]

_SCENE_NAME = re.compile(r"(scene\d{4})_\d{2}")

_BASES = (".", "scans", "scans_test")
"""Folders of a ScanNet download that may contain scenes."""


@dataclass(frozen=True, eq=False)
class ExportedScene:
    """A scene exported by ScanNet's tools: `color/NUMBER.jpg` and `pose/NUMBER.txt`."""

    folder: Path
    pictures: dict[int, Path]
    """Path of each color image by frame number."""
    problem = None

    @property
    def numbers(self) -> Iterable[int]:
        """Numbers of all frames."""
        return self.pictures

    @classmethod
    def open(cls, folder: Path) -> ExportedScene:
        """Lists the color images of a scene.

        Raises:
            GenLangSplatError: If there are none, or the folder cannot be read.
        """
        try:
            paths = sorted((folder / "color").iterdir())
        except OSError as error:
            raise GenLangSplatError(
                f"{folder / 'color'} cannot be read ({error.strerror}). Export the scene again."
            ) from error
        pictures = {
            int(path.stem): path
            for path in paths
            if path.suffix.lower() in PICTURE_SUFFIXES and path.stem.isascii() and path.stem.isdigit()
        }
        if not pictures:
            raise GenLangSplatError(
                f"{folder / 'color'} contains no image with a number as name, such as 0.jpg. Export the scene again."
            )
        return cls(folder, pictures)

    def is_tracked(self, number: int) -> bool:
        """Whether a frame has a finite pose; without a folder of poses, all frames count as tracked."""
        try:
            text = (self.folder / "pose" / f"{self.pictures[number].stem}.txt").read_text(encoding="utf-8")
            pose = np.array(text.split(), dtype=np.float32)
        except (OSError, ValueError):
            return not (self.folder / "pose").is_dir()
        return pose.size == 16 and bool(np.isfinite(pose).all())

    def color(self, number: int, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
        """Reads the color image of one frame; raises GenLangSplatError if it is damaged or no longer exists."""
        path = self.pictures.get(number, self.folder / "color" / f"{number}.jpg")
        return read_photograph(path, "Export the scene again.", max_side)


@dataclass(frozen=True)
class ScanNetSource:
    """The color images of a ScanNet download.

    The key of a frame is the same for recordings and exported folders. If a scene has both, the recording is used.
    """

    root: Path
    """Folder that contains the scenes directly or in `scans`."""
    stride: int = 20
    """Frames whose recorded number is a multiple of this are used."""
    split: Split = "train"
    """train excludes the benchmark scenes and all other scans of their rooms; held_out is the benchmark scenes."""
    scenes: Path | None = None
    """File with one scene name per line; without it all scenes of the split are used."""
    max_side: int | None = None
    """Maximum long side in pixels; larger images are downscaled."""
    name: str = "scannet"

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise GenLangSplatError(f"The stride is {self.stride}. Give 1 to use every frame, or more to skip some.")
        if self.split not in get_args(Split):
            raise GenLangSplatError(f"The split is {self.split!r}. Choose one of {', '.join(get_args(Split))}.")
        object.__setattr__(self, "root", source_folder(self.root, self.max_side))

    def frames(self) -> list[Frame]:
        """Lists the frames that have a pose, and logs what was excluded.

        The complete frames of a truncated recording are used; other damaged scenes are excluded.

        Raises:
            GenLangSplatError: If no scene is found, there are no usable frames, or the file of scenes is invalid.
        """
        frames: list[Frame] = []
        problems: list[str] = []
        lost = 0
        for scene in track(self._scene_names(), "Listing ScanNet"):
            try:
                opened = self._open(scene)
            except GenLangSplatError as error:
                problems.append(str(error))
                continue
            if opened.problem is not None:
                problems.append(opened.problem)
            numbers = [number for number in opened.numbers if number % self.stride == 0]
            tracked = [number for number in numbers if opened.is_tracked(number)]
            lost += len(numbers) - len(tracked)
            frames += [Frame(f"{scene}/{number:06d}", scene) for number in tracked]
        for problem in problems:
            LOGGER.warning("%s", problem)
        if not frames:
            raise GenLangSplatError(
                f"Found no usable frame in {self.root}: {len(problems)} scenes are damaged, and {lost} frames have no "
                "pose. Download the scenes again, or use a smaller stride."
            )
        excluded = f"; {lost} frames without a pose are excluded" if lost else ""
        LOGGER.info("ScanNet: %d frames of %d scenes%s", len(frames), len({frame.scene for frame in frames}), excluded)
        return sorted(frames)

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"]:
        """Reads the image of one frame; raises GenLangSplatError if it is damaged or no longer exists."""
        number = int(frame.key.rpartition("/")[2])
        return torch.from_numpy(self._open(frame.scene).color(number, self.max_side))

    def _open(self, scene: str) -> SensFile | ExportedScene:
        path = self._scene_path(scene)
        if path is None:
            raise GenLangSplatError(
                f"{self.root} no longer contains {scene}. Restore {scene}.sens or its exported folder."
            )
        listed = path if path.is_file() else path / "color"
        return _opened(path, listed.stat().st_mtime_ns)

    def _scene_path(self, scene: str) -> Path | None:
        """Returns the recording of a scene, or its exported folder, or None."""
        bases = [self.root / base for base in _BASES]
        recordings = [base / place for base in bases for place in (f"{scene}/{scene}.sens", f"{scene}.sens")]
        exported = next((base / scene for base in bases if (base / scene / "color").is_dir()), None)
        return next((path for path in recordings if path.is_file()), exported)

    def _scene_names(self) -> list[str]:
        """Returns the sorted names of the existing scenes of the split and the list."""
        bases = [self.root / base for base in _BASES if (self.root / base).is_dir()]
        found = {path.name.removesuffix(".sens") for base in bases for path in base.iterdir()}
        existing = {name for name in found if _SCENE_NAME.fullmatch(name) and self._scene_path(name) is not None}
        if not existing:
            raise GenLangSplatError(
                f"{self.root} contains no ScanNet scene: neither it nor its folder scans/ has "
                "scene0000_00/scene0000_00.sens or scene0000_00/color/. Give the folder of the ScanNet download."
            )
        requested = existing if self.scenes is None else self._listed_scenes(existing)
        kept = sorted(name for name in requested if _belongs(name, self.split))
        if self.split == "train" and len(kept) < len(requested):
            held_out = sorted(requested - set(kept))
            LOGGER.info("Excluded because 3D benchmarks use their rooms: %s.", _shorten(held_out))
        if not kept:
            raise GenLangSplatError(
                f"None of the {len(requested)} scenes found in {self.root} belongs to the split {self.split!r}. "
                "Choose another split, or add scenes."
            )
        return kept

    def _listed_scenes(self, existing: set[str]) -> set[str]:
        """Returns the existing scenes of the list, and warns about the others."""
        assert self.scenes is not None
        try:
            lines = self.scenes.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise GenLangSplatError(
                f"{self.scenes} cannot be read ({error}). Give a text file with one scene name per line."
            ) from error
        wrong = [line for line in lines if not _SCENE_NAME.fullmatch(line)]
        if wrong or not lines:
            raise GenLangSplatError(
                f"{self.scenes} should contain one scene name per line, such as scene0001_00, "
                f"but {f'has {_shorten(wrong)}' if wrong else 'is empty'}. Correct the file."
            )
        listed = set(lines)
        missing = sorted(listed - existing)
        if len(missing) == len(listed):
            raise GenLangSplatError(
                f"None of the scenes in {self.scenes} ({_shorten(missing)}) is in {self.root}. Download them, or "
                "give the list that belongs to this folder."
            )
        if missing:
            places = self.scenes, self.root, _shorten(missing)
            LOGGER.warning("%d of the %d scenes in %s are not in %s: %s.", len(missing), len(listed), *places)
        return listed & existing


@lru_cache(maxsize=8)
def _opened(path: Path, modified: int) -> SensFile | ExportedScene:
    """Opens a scene. It is cached because the frames of a scene are loaded consecutively."""
    return SensFile.open(path) if path.suffix == ".sens" else ExportedScene.open(path)


def _belongs(scene: str, split: Split) -> bool:
    if split == "train":
        return scene[:9] not in {held_out[:9] for held_out in HELD_OUT_SCENES}
    return split == "all" or scene in HELD_OUT_SCENES


def _shorten(names: Iterable[str], shown: int = 5) -> str:
    """Joins the first names, and counts the others."""
    listed = list(names)
    return ", ".join(listed[:shown]) + (f" and {len(listed) - shown} more" if len(listed) > shown else "")
