"""Photographs of any kind as pixels of eight bits."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from genlangsplat_ns.errors import GenLangSplatError

_EIGHT_BIT_MODES = {"1": "L", "L": "L", "LA": "RGBA", "La": "RGBA", "PA": "RGBA"}
"""What Pillow's picture modes become; the others become RGB."""

_UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""All that Pillow raises over files that are no pictures, damaged (also in their EXIF marks) or absurdly large."""


@contextmanager
def reading_picture(name: str, advice: str) -> Iterator[None]:
    """Turns what Pillow raises inside into an error that names the picture and says what to do.

    Raises:
        GenLangSplatError: If the picture inside cannot be read.
    """
    try:
        yield
    except _UNREADABLE as error:
        raise GenLangSplatError(f"{name} cannot be read as a picture ({error}). {advice}") from error


def read_photograph(path: Path, advice: str, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a photograph upright, turned as its EXIF mark asks.

    Args:
        path: The file.
        advice: What to do when it cannot be read.
        max_side: Limit of the long side.

    Raises:
        GenLangSplatError: If the file is no picture, or one whose white is unknown.
    """
    with reading_picture(str(path), advice), Image.open(path) as file:
        return rgb_pixels(ImageOps.exif_transpose(file), str(path), max_side)


def rgb_pixels(picture: Image.Image, name: str, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """The colors of a picture; opacity is left out.

    Args:
        picture: A picture of any mode.
        name: What an error calls it.
        max_side: Limit of the long side; a larger picture is shrunk by averaging areas.

    Raises:
        GenLangSplatError: If it holds floating-point pixels.
    """
    colors = np.array(eight_bit(picture, name).convert("RGB"))
    height, width = colors.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return colors
    # Unlike Pillow's box filter, OpenCV weighs the pixels on an area's edge by their share.
    import cv2

    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(colors, size, interpolation=cv2.INTER_AREA)


def eight_bit(picture: Image.Image, name: str) -> Image.Image:
    """A copy of a picture in gray, RGB or RGBA of eight bits a channel.

    Args:
        picture: A picture of any mode.
        name: What an error calls it.

    Raises:
        GenLangSplatError: If it holds floating-point pixels.
    """
    if picture.mode.startswith("I"):
        # Gray of sixteen bits, whatever number type Pillow keeps it in.
        return Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    if picture.mode == "F":
        raise GenLangSplatError(
            f"{name} holds floating-point pixels, whose white is unknown. Convert it to 8 or 16 bits."
        )
    if picture.mode in ("RGB", "RGBA"):
        return picture.copy()
    if picture.mode == "P" and "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert(_EIGHT_BIT_MODES.get(picture.mode, "RGB"))
