"""Labels in the format of labelme: one JSON file per labeled view, with shapes."""

from __future__ import annotations

import base64
import binascii
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_files import (
    category_of,
    check_size,
    field_of,
    outline_points,
    outline_problem,
    photograph_name,
    picture_of,
)
from genlangsplat_ns.evaluation.labels import LabeledMask, LabeledObject, Polygon, ViewLabels
from genlangsplat_ns.utils.photographs import eight_bit, reading_picture

OUTLINED = ("polygon", "rectangle", "rotation", "oriented_rectangle", "circle")
"""Shapes that enclose an area; `rotation` is X-AnyLabeling's turned rectangle."""


def parse_labelme(document: Any, path: Path) -> ViewLabels:
    """Reads the labels of a view from the content of their file.

    Polygons, rectangles, circles and masks are labels. Points and lines have no area; they and shapes that cover no
    pixel are skipped and listed in `skipped`.

    Raises:
        GenLangSplatError: If a required field is missing or unusable.
    """
    shapes = field_of(document, "shapes", list, path, "the file")
    name = document.get("imagePath")
    name = photograph_name(name) if isinstance(name, str) else ""
    width, height = _image_size(document, path)
    objects: list[LabeledObject | LabeledMask] = []
    skipped = []
    for index, shape in enumerate(shapes):
        place = f"shape {index + 1}"
        category = category_of(shape, "label", path, place)
        if category is None:
            continue
        kind = shape.get("shape_type") or "polygon"
        points = field_of(shape, "points", list, path, place)
        if kind == "mask":
            mask = _mask(shape.get("mask"), points, width, height, path, place)
            problem = None if mask.any() else "its mask has no pixel in the image"
            if problem is None:
                objects.append(LabeledMask(category, mask))
        elif kind in OUTLINED:
            polygon = _outline(kind, points, path, place)
            problem = outline_problem(polygon, width, height)
            if problem is None:
                objects.append(LabeledObject.from_polygon(category, polygon))
        else:
            problem = f"the shape {kind} has no area"
        if problem is not None:
            skipped.append(f"{path.name}, {place} ({category}): {problem}")
    return ViewLabels(name or path.stem, width, height, tuple(objects), tuple(skipped), picture_of(path))


def _image_size(document: Any, path: Path) -> tuple[int, int]:
    """Returns the size of the labeled image; old versions state it only by the image itself."""
    size = document.get("imageWidth"), document.get("imageHeight")
    if size == (None, None) and isinstance(document.get("imageData"), str):
        with _picture(document["imageData"], path, '"imageData"') as picture:
            size = picture.size
    elif size == (None, None) and (beside := picture_of(path)) is not None:
        with reading_picture(str(beside), "Replace it."), Image.open(beside) as picture:
            size = picture.size
    found = dict(zip(("imageWidth", "imageHeight"), size, strict=True))
    width, height = (field_of(found, key, int, path, "the file") for key in found)
    check_size(width, height, path)
    return width, height


def _outline(kind: str, points: list[Any], path: Path, place: str) -> Polygon:
    """Returns the corners of a polygon, a rectangle of two or four corners, or a circle of its center and a point."""
    corners = outline_points(points, path, place)
    if kind == "circle":
        if len(corners) != 2:
            raise _wrong_count(kind, len(corners), path, place)
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        angles = np.linspace(0, 2 * np.pi, int(np.clip(4 * radius, 16, 720)), endpoint=False)
        return tuple(zip((x + radius * np.cos(angles)).tolist(), (y + radius * np.sin(angles)).tolist(), strict=True))
    if kind == "polygon" or len(corners) == 4:
        return corners
    if len(corners) != 2:
        raise _wrong_count(kind, len(corners), path, place)
    (x0, y0), (x1, y1) = corners
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _mask(encoded: Any, points: list[Any], width: int, height: int, path: Path, place: str) -> np.ndarray:
    """Returns a mask over the whole image from the PNG of its part, which lies between two corners."""
    corners = outline_points(points, path, place)
    if len(corners) != 2:
        raise _wrong_count("mask", len(corners), path, place)
    if not isinstance(encoded, str):
        raise GenLangSplatError(f"The mask of {place} in the labels {path} is missing; expected a PNG in base64.")
    with _picture(encoded, path, f"The mask of {place}") as picture:
        if picture.width > width + 1 or picture.height > height + 1:
            raise GenLangSplatError(
                f"The mask of {place} in the labels {path} has {picture.width}x{picture.height} pixels, but the image "
                f"has {width}x{height}. Correct it."
            )
        part = np.array(eight_bit(picture, str(path)).convert("L")) > 0
    first = np.min(corners, axis=0)
    left, top = (int(np.clip(value, -side, side)) for value, side in zip(first, (width, height), strict=True))
    mask = np.zeros((height, width), bool)
    part = part[max(-top, 0) : height - top, max(-left, 0) : width - left]
    top, left = max(top, 0), max(left, 0)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def _picture(encoded: str, path: Path, place: str) -> Image.Image:
    """Opens an image in base64.

    Raises:
        GenLangSplatError: If it is no image.
    """
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise GenLangSplatError(f"{place} in the labels {path} is not base64 ({error}). Repair the file.") from error
    with reading_picture(f"{place} in the labels {path}", "Repair the file."):
        picture = Image.open(io.BytesIO(content))
        picture.load()
        return picture


def _wrong_count(kind: str, count: int, path: Path, place: str) -> GenLangSplatError:
    return GenLangSplatError(
        f"The {kind} of {place} in the labels {path} has {count} points; expected two corners"
        f"{' or four' if kind != 'mask' else ''}, and for a circle its center and a point on it. Correct it."
    )
