"""Frames and their sources: the interface between data sets and extraction, and folder trees of images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import PICTURE_SUFFIXES, read_photograph


@dataclass(frozen=True, order=True)
class Frame:
    """One image of a source, without its pixels."""

    key: str
    """Name that is unique within the source and the same in each run, such as "scene0000_00/000120"."""
    scene: str
    """Name of its scene; training holds out whole scenes."""


@runtime_checkable
class FrameSource(Protocol):
    """A data set of images. Sources are sent to other processes and machines, so their pickles must be small."""

    @property
    def name(self) -> str:
        """Short name of the data set."""

    def frames(self) -> list[Frame]:
        """Lists all frames, sorted by key, without reading pixels; raises GenLangSplatError if there are none."""

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"]:
        """Reads the RGB pixels of one frame; raises GenLangSplatError if this frame cannot be read."""


def source_folder(root: Path, max_side: int | None) -> Path:
    """Returns the absolute path of a data set's folder, because workers have other working directories.

    Raises:
        GenLangSplatError: If it is not a folder, or the maximum long side of its images in pixels is below 1.
    """
    if not root.is_dir():
        raise GenLangSplatError(f"{root} is not a folder. Give the folder that contains the images or scenes.")
    if max_side is not None and max_side < 1:
        raise GenLangSplatError(f"max_side is {max_side}, expected at least 1 pixel. Give 1 or more, or omit it.")
    return root.absolute()


@dataclass(frozen=True)
class ImageFolderSource:
    """The images in a folder and its subfolders, without hidden ones.

    The key of a frame is its path relative to the folder. Its scene is the first folder of that path, or the folder
    itself.
    """

    root: Path
    max_side: int | None = None
    """Maximum long side in pixels; larger images are downscaled."""
    name: str = ""
    """Name of the source; by default the name of the folder."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", source_folder(self.root, self.max_side))
        object.__setattr__(self, "name", self.name or self._folder_name)

    def frames(self) -> list[Frame]:
        """Lists the files with an image suffix, sorted by key.

        Raises:
            GenLangSplatError: If there are none, or a folder cannot be read.
        """
        paths = [path.relative_to(self.root) for path in _pictures_below(self.root)]
        if not paths:
            raise GenLangSplatError(
                f"There are no images in {self.root} and its subfolders (looked for {', '.join(PICTURE_SUFFIXES)}). "
                "Give a folder of images."
            )
        scenes = [path.parts[0] if len(path.parts) > 1 else self._folder_name for path in paths]
        return sorted(Frame(path.as_posix(), scene) for path, scene in zip(paths, scenes, strict=True))

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"]:
        """Reads an image and applies its EXIF orientation; raises GenLangSplatError if it cannot be read."""
        advice = "Replace it, or remove it from the folder."
        return torch.from_numpy(read_photograph(self.root / frame.key, advice, self.max_side))

    @property
    def _folder_name(self) -> str:
        return self.root.resolve().name or "images"


def _pictures_below(root: Path) -> Iterator[Path]:
    """Yields the images below a folder; visits each folder once, so that link cycles end."""

    def stop(error: OSError) -> None:
        raise GenLangSplatError(
            f"{error.filename} cannot be read ({error.strerror}). Fix its permissions, or remove it from the folder."
        ) from error

    entered: set[str] = set()
    for folder, subfolders, files in os.walk(root, onerror=stop, followlinks=True):
        if (real := os.path.realpath(folder)) in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and name.lower().endswith(PICTURE_SUFFIXES):
                yield Path(folder, name)
