"""Folder trees of images as a source of frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import read_photograph
from pretrain.sources import Frame, check_max_side, source_folder

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


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
        check_max_side(self.max_side)
        object.__setattr__(self, "root", source_folder(self.root))
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
        """Reads an image and applies its EXIF orientation.

        Raises:
            GenLangSplatError: If it cannot be read.
        """
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
