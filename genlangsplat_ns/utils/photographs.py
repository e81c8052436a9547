"""Reads images of any mode as 8-bit pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.webp import webp_size
from genlangsplat_ns.utils.wrong_files import wrong_content

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""Suffixes of image files, in the order in which they are tried; files may have them in capitals."""

_EIGHT_BIT_MODES = {"1": "L", "L": "L", "LA": "RGBA", "La": "RGBA", "PA": "RGBA"}
"""Conversions of Pillow's image modes; other modes are converted to RGB."""

_UNREADABLE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    struct.error,
    # The length of a chunk in a damaged PNG file.
    MemoryError,
    Image.DecompressionBombError,
)
"""Exceptions that Pillow raises for files that are not images, damaged (including EXIF data) or too large."""


@contextmanager
def reading_picture(name: str, advice: str) -> Iterator[None]:
    """Converts exceptions of Pillow in the block into an error with the image's name and advice.

    Raises:
        GenLangSplatError: If the image cannot be read.
    """
    try:
        yield
    except _UNREADABLE as error:
        raise GenLangSplatError(f"{name} cannot be read as an image ({_problem(name, error)}). {advice}") from error


FREE_PIXELS = 16_000_000
"""Pixels that a picture of any size of file may have."""

PIXELS_PER_BYTE = 1000
"""The most pixels per byte of the file of a larger photograph: five times as many as the plainest JPEG has."""


def most_pixels_in(num_bytes: int) -> int:
    """Returns the most pixels that a photograph in a file of this size can have."""
    return max(FREE_PIXELS, PIXELS_PER_BYTE * num_bytes)


def open_photograph(path: Path) -> Image.Image:
    """Opens a photograph that does not fill the memory from a small, damaged or made-up file.

    Raises:
        ValueError: It has more pixels than a photograph in a file of its size can have.
        OSError: It cannot be opened.
    """
    return open_picture(path, most_pixels_in(path.stat().st_size))


def open_picture(file: Path | BytesIO, most_pixels: int, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Opens a picture of at most so many pixels, in any of Pillow's formats or in one of these.

    Pillow takes memory for the whole picture when it opens a WebP file, so the size is first read without it.

    Raises:
        ValueError: It has more pixels.
        OSError: It cannot be opened.
    """
    size = webp_size(file)
    if size is not None:
        _check_pixels(size, most_pixels)
    picture = Image.open(file, formats=formats)
    try:
        _check_pixels(picture.size, most_pixels)
    except ValueError:
        picture.close()
        raise
    return picture


def _check_pixels(size: tuple[int, int], most_pixels: int) -> None:
    width, height = size
    if width * height > most_pixels:
        raise ValueError(f"it claims {width}x{height} pixels, expected at most {most_pixels:,}")


def _problem(name: str, error: Exception) -> str:
    """Returns what is wrong with an image; Pillow only says that it does not know the format."""
    path = Path(name)
    if path.suffix.lower() in (".heic", ".heif"):
        return "HEIC is not read; convert the photographs to JPEG and compute their cameras again"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, the most that is read; make it smaller"
    wrong = wrong_content(path) if path.is_file() else None
    return f"it is {wrong}" if wrong is not None else str(error)


def read_photograph(path: Path, advice: str, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Reads an image and applies its EXIF orientation; its long side has at most `max_side` pixels.

    Raises:
        GenLangSplatError: If the file cannot be read as an image (with the advice), or contains floating-point pixels.
    """
    with reading_picture(str(path), advice), open_photograph(path) as file:
        return rgb_pixels(ImageOps.exif_transpose(file), str(path), max_side)


def rgb_pixels(picture: Image.Image, name: str, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the RGB pixels of an image of any mode, without alpha.

    Images with a long side of more than `max_side` pixels are downscaled by area averaging. `name` is shown in errors.

    Raises:
        GenLangSplatError: If the image contains floating-point pixels.
    """
    colors = np.array(eight_bit(picture, name).convert("RGB"))
    height, width = colors.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return colors
    # Unlike Pillow's box filter, OpenCV weights the pixels at the border of an area by their overlap.
    import cv2

    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(colors, size, interpolation=cv2.INTER_AREA)


def eight_bit(picture: Image.Image, name: str) -> Image.Image:
    """Converts an image of any mode to grayscale, RGB or RGBA with 8 bits per channel. `name` is shown in errors.

    Raises:
        GenLangSplatError: If the image contains floating-point pixels.
    """
    if picture.mode.startswith("I"):
        # 16-bit grayscale; Pillow has several integer modes for it.
        return Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    if picture.mode == "F":
        raise GenLangSplatError(
            f"{name} contains floating-point pixels, whose range is unknown. Convert it to 8 or 16 bits."
        )
    if picture.mode in ("P", "RGB", "L", "1") and "transparency" in picture.info:
        return picture.convert("RGBA")
    if picture.mode in ("RGB", "RGBA"):
        return picture.copy()
    return picture.convert(_EIGHT_BIT_MODES.get(picture.mode, "RGB"))
