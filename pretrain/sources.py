"""What frames are and who gives them: the interface between data sets and extraction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True, order=True)
class Frame:
    """One picture of a source, without its pixels.

    Attributes:
        key: Its name, unique within the source and the same in every run, for example "scene0000_00/000120".
        scene: The scene it shows; training holds out whole scenes.
    """

    key: str
    scene: str


@runtime_checkable
class FrameSource(Protocol):
    """A data set of pictures. Sources travel to other processes and machines, so they pickle to a few settings."""

    @property
    def name(self) -> str:
        """Short name of the data set."""
        ...

    def frames(self) -> list[Frame]:
        """Lists all frames, sorted by key, without reading a pixel.

        Raises:
            GenLangSplatError: If the data set is not there or holds no frame.
        """
        ...

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"]:
        """Reads the pixels of one frame, RGB.

        Raises:
            GenLangSplatError: If this frame cannot be read; the others may still be.
        """
        ...


def source_folder(root: Path) -> Path:
    """The absolute path of a data set's folder: a worker elsewhere has another working folder.

    Raises:
        GenLangSplatError: If it is no folder.
    """
    if not root.is_dir():
        raise GenLangSplatError(f"{root} is not a folder. Give the folder that holds the pictures or scenes.")
    return root.absolute()


def check_max_side(max_side: int | None) -> None:
    """Refuses a limit of the long side that leaves no pixel.

    Raises:
        GenLangSplatError: If it is below 1.
    """
    if max_side is not None and max_side < 1:
        raise GenLangSplatError(
            f"max_side is {max_side}, but a picture needs a pixel. Give 1 or more, or leave it out."
        )
