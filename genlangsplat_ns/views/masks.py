"""Reads mask files, which mark the pixels of a photograph that count: a pixel counts if its value is not zero."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageOps

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import is_file
from genlangsplat_ns.utils.photographs import FREE_PIXELS, PICTURE_SUFFIXES, open_picture, reading_picture
from genlangsplat_ns.views.posed_scene import join_names

LOGGER = logging.getLogger(__name__)

LOSSY_FORMATS = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
"""Formats, by Pillow's names, that change zeros near the border of a mask."""

MAX_SKEW = 0.05
"""Maximum relative difference of aspect ratios from rounding."""

MAX_SCALE = 8
"""How many times larger than its photograph a mask may be if it is large."""

ADVICE = "Export the mask again, for example as a grayscale PNG that is black where the photograph is to be ignored."

Size = tuple[int, int]
"""Width and height in pixels."""


def find_mask(folder: Path, photograph: Path) -> Path | None:
    """Finds the mask of a photograph, given by its path below its own folder; returns None if there is none.

    Both common names are recognized: for `a/x.jpg`, these are `a/x.jpg.png` and `a/x.png`, also with another suffix.
    """
    endings = [*PICTURE_SUFFIXES, *(suffix.upper() for suffix in PICTURE_SUFFIXES)]
    names = [base + ending for base in (photograph.name, photograph.stem) for ending in endings]
    return next((path for name in names if is_file(path := folder / photograph.parent / name)), None)


def folder_masks(folders: Sequence[Path], photographs: Sequence[Path]) -> list[Path | None]:
    """Finds the masks of photographs in folders of masks, of which the first that has a mask counts.

    A photograph without a mask counts as a whole.

    Raises:
        GenLangSplatError: No photograph has a mask.
    """
    masks = [next(filter(None, (find_mask(folder, item) for folder in folders)), None) for item in photographs]
    without = [str(photograph) for photograph, mask in zip(photographs, masks, strict=True) if mask is None]
    if len(without) == len(photographs):
        raise GenLangSplatError(
            f"Found no mask in {folders[-1]}; expected for the photograph {without[0]} for example "
            f"{without[0]}.png or {Path(without[0]).with_suffix('.png')}. Rename the masks, or omit --masks-path."
        )
    if without:
        LOGGER.warning(
            "%d of %d photographs have no mask in %s and count as a whole: %s.",
            *(len(without), len(photographs), folders[-1], join_names(without)),
        )
    return masks


def listed_mask(path: Path, photograph: Path) -> Path:
    """Returns the file of a listed mask, which may have the other common name of the photograph's mask.

    The photograph itself, which has such a name if the masks belong beside it, is no mask.
    """
    if is_file(path):
        return path
    found = find_mask(path.parent, Path(photograph.name))
    return path if found is None or found == photograph else found


def check_masks(paths: Sequence[Path | None], sizes: Sequence[Size]) -> None:
    """Checks from their headers that the masks of photographs of these sizes exist and fit.

    Raises:
        GenLangSplatError: A mask is missing, is not an image, or has another shape than its photograph.
    """
    listed = [path for path in paths if path is not None]
    missing = [path for path in listed if not is_file(path)]
    if missing:
        raise GenLangSplatError(
            f"{len(missing)} of {len(listed)} listed masks do not exist: {join_names(missing)}. Restore them, or "
            "remove mask_path from their frames in transforms.json, so that their photographs count as a whole."
        )
    for path, size in zip(paths, sizes, strict=True):
        if path is not None:
            with reading_picture(str(path), ADVICE), _open_mask(path, size) as file:
                _upright(file, path, size)


def read_mask(path: Path, photograph_size: Size, size: Size | None = None) -> Bool[np.ndarray, "height width"]:
    """Reads which pixels of a photograph count.

    Grayscale, palette and color images count where any color is not zero; in lossy formats, where the brightness is
    above half of the highest one. Transparent pixels do not count. If an image with transparency has a single color,
    its opacity alone is the mask.

    The mask may have another scale than the photograph. The result has `size`, or that of the photograph, by
    nearest-neighbor interpolation.

    Raises:
        GenLangSplatError: The file cannot be read as an image, or has another shape than the photograph.
    """
    with reading_picture(str(path), ADVICE), _open_mask(path, photograph_size) as file:
        lossy = file.format in LOSSY_FORMATS
        kept = _kept(_upright(file, path, photograph_size), lossy)
    shown = Image.fromarray(kept.astype(np.uint8)).resize(size or photograph_size, Image.Resampling.NEAREST)
    return np.asarray(shown) > 0


def _open_mask(path: Path, photograph_size: Size) -> Image.Image:
    """Opens a mask, which is as large as its photograph or a scaled copy; a larger one would only fill the memory."""
    width, height = photograph_size
    return open_picture(path, max(FREE_PIXELS, MAX_SCALE**2 * width * height))


def _upright(mask: Image.Image, path: Path, photograph_size: Size) -> Image.Image:
    """Returns the mask in the orientation of the photograph, which may be that of its EXIF data."""
    width, height = photograph_size
    if same_shape(mask.size, photograph_size):
        return mask
    # The turned copy is made only if it can have the shape, because that decodes the whole mask.
    if same_shape(mask.size, (height, width)):
        upright = ImageOps.exif_transpose(mask)
        if same_shape(upright.size, photograph_size):
            return upright
    raise GenLangSplatError(
        f"The mask {path} has {mask.width}x{mask.height} pixels, but its photograph has "
        f"{width}x{height}, which is another shape or far smaller. Export the mask of this photograph again, at its "
        "size or scaled."
    )


def same_shape(first: Size, second: Size) -> bool:
    """Whether two image sizes have the same aspect ratio, within the rounding of sides to pixels."""
    difference = abs(first[0] * second[1] - second[0] * first[1])
    product = min(first[0] * second[1], second[0] * first[1])
    return difference <= max(sum(first), sum(second)) and difference <= MAX_SKEW * product


def _kept(mask: Image.Image, lossy: bool) -> Bool[np.ndarray, "height width"]:
    if mask.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in mask.info:
        pixels = np.asarray(mask.convert("RGBA"))
        colors, opacity = pixels[..., :3], pixels[..., 3]
        if (colors == colors[0, 0]).all() and (opacity != opacity[0, 0]).any():
            return opacity > 0
        return _bright(colors.max(axis=-1), lossy) & (opacity > 0)
    if mask.mode == "1" or mask.mode[0] in "LIF":
        return _bright(np.asarray(mask), lossy)
    return _bright(np.asarray(mask.convert("RGB")).max(axis=-1), lossy)


def _bright(values: np.ndarray, lossy: bool) -> Bool[np.ndarray, "height width"]:
    # In relation to the highest value, because masks of zeros and ones are common.
    return values * 2.0 > float(values.max()) if lossy else values != 0
