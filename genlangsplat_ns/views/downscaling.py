"""Downscaled copies of photographs, in folders such as images_2 beside the folder images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import is_file
from genlangsplat_ns.utils.photographs import open_photograph, reading_picture
from genlangsplat_ns.views.lenses import Lens
from genlangsplat_ns.views.posed_scene import format_option

LOGGER = logging.getLogger(__name__)

AUTOMATIC_SIDE = 1600
"""nerfstudio downscales photographs until the long side has at most this many pixels."""


class Downscaler:
    """Chooses the size of photographs and masks, and their downscaled copies.

    Args:
        root: The photographs lie below it. The copies have all these folders, all but the first, or none, if names
            still differ.
        folder: The folder of the photographs; the folders of copies lie beside it.
        pictures: The photographs.
        factor: The factor; None for powers of two until the first photograph has at most `AUTOMATIC_SIDE` pixels.
        only_copies: If the factor is None, only choose one for which there are copies.

    Attributes:
        factor: The factor.
        stored: Whether downscaled copies are read.
        photograph_scale: The factor by which photographs without copies are scaled when they are read.
    """

    def __init__(
        self, root: Path, folder: Path, pictures: Sequence[Path], factor: int | None, only_copies: bool
    ) -> None:
        self._root, self._folder, first = root, folder, pictures[0]
        count = len(set(pictures))
        self._starts = [start for start in (0, 1, -1) if len({self._place(item, start) for item in pictures}) == count]
        self.factor = factor or 1
        if factor is None:
            longest = max(picture_size(first))
            while longest / self.factor > AUTOMATIC_SIDE and not (
                only_copies and self._copy(first, folder, 2 * self.factor) is None
            ):
                self.factor *= 2
        self.stored = self.factor > 1 and self._copy(first, folder, self.factor) is not None
        # With a multiple of 2^-12, products with image sizes are exact.
        self.photograph_scale = 1.0 if self.stored else int(4096 / self.factor) / 4096
        if self.photograph_scale < 1:
            LOGGER.info(
                "There is no %s_%d for all photographs, so these are scaled by 1/%d when they are read. Other sizes: "
                "%s.",
                *(folder, self.factor, self.factor, format_option("--downscale-factor FACTOR")),
            )

    def _place(self, picture: Path, start: int) -> Path:
        """Returns the path of a picture below the root from the part `start` on, which is at least its name."""
        parts = picture.relative_to(self._root).parts if picture.is_relative_to(self._root) else (picture.name,)
        return Path(*(parts[start:] or parts[-1:]))

    def _copy(self, picture: Path, folder: Path, factor: int) -> Path | None:
        copies = folder.with_name(f"{folder.name}_{factor}")
        return next((path for start in self._starts if is_file(path := copies / self._place(picture, start))), None)

    def picture(self, picture: Path) -> Path:
        """Returns the downscaled copy of a photograph.

        Raises:
            GenLangSplatError: It is missing although other photographs have one.
        """
        if not self.stored:
            return picture
        copy = self._copy(picture, self._folder, self.factor)
        if copy is None:
            raise GenLangSplatError(
                f"There is no downscaled copy of {picture} in {self._folder}_{self.factor}, but of others. Add it, or "
                f"use the photographs themselves: {format_option('--downscale-factor 1')}."
            )
        return copy

    def mask(self, mask: Path) -> Path:
        """Returns the downscaled copy of a mask, or the mask itself."""
        return (self._copy(mask, self._folder.with_name("masks"), self.factor) if self.stored else None) or mask

    def lens(self, lens: Lens) -> Lens:
        """Returns the lens of the chosen copy of a photograph."""
        return lens.divided(self.factor) if self.stored else lens


def picture_size(path: Path) -> tuple[int, int]:
    """Returns the width and height of a picture, from its header."""
    advice = "Replace it, or remove its frame from the list of frames."
    with reading_picture(str(path), advice), open_photograph(path) as file:
        return file.size
