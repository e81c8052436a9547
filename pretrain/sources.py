"""Frames and their sources: the interface between data sets and extraction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError


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


def source_folder(root: Path) -> Path:
    """Returns the absolute path of a data set's folder, because workers have other working directories.

    Raises:
        GenLangSplatError: If it is not a folder.
    """
    if not root.is_dir():
        raise GenLangSplatError(f"{root} is not a folder. Give the folder that contains the images or scenes.")
    return root.absolute()


def check_max_side(max_side: int | None) -> None:
    """Raises GenLangSplatError if the maximum long side in pixels is below 1."""
    if max_side is not None and max_side < 1:
        raise GenLangSplatError(f"max_side is {max_side}, expected at least 1 pixel. Give 1 or more, or omit it.")
