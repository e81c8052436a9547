"""Labels in the format of labelme: one JSON file per labeled view, with shapes."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_files import (
    category_of,
    field_of,
    outline_points,
    outline_problem,
    photograph_name,
    picture_of,
    size_of,
)
from genlangsplat_ns.evaluation.labels import LabeledMask, LabeledObject, Mask, Polygon, ViewLabels
from genlangsplat_ns.utils.photographs import (
    FREE_PIXELS,
    eight_bit,
    most_pixels_in,
    open_photograph,
    open_picture,
    reading_picture,
)

OUTLINED = ("polygon", "rectangle", "rotation", "oriented_rectangle", "circle")
"""Shapes that enclose an area; `rotation` is X-AnyLabeling's turned rectangle."""


def parse_labelme(document: Any, path: Path) -> list[ViewLabels]:
    """Reads the labels of a view from the content of their file.

    Polygons, rectangles, circles and masks are labels. Points and lines have no area; they and shapes that cover no
    pixel are skipped and listed in `skipped`.
    """
    shapes = field_of(document, "shapes", list, "the file")
    name = document.get("imagePath")
    name = photograph_name(name) if isinstance(name, str) else ""
    width, height = _image_size(document, path)
    objects: list[LabeledObject | LabeledMask] = []
    skipped = []
    for index, shape in enumerate(shapes):
        place = f"shape {index + 1}"
        category = category_of(shape, "label", place)
        if category is None:
            continue
        kind = shape.get("shape_type") or "polygon"
        points = field_of(shape, "points", list, place)
        if kind == "mask":
            mask = _mask(shape.get("mask"), points, width, height, place)
            problem = None if mask.any() else "its mask has no pixel in the image"
            if problem is None:
                objects.append(LabeledMask(category, mask))
        elif kind in OUTLINED:
            polygon = _outline(kind, points, place)
            problem = outline_problem(polygon, width, height)
            if problem is None:
                objects.append(LabeledObject.from_polygon(category, polygon))
        else:
            problem = f"the shape {kind} has no area"
        if problem is not None:
            skipped.append(f"{path.name}, {place} ({category}): {problem}")
    return [ViewLabels(name or path.stem, width, height, tuple(objects), tuple(skipped), picture_of(path))]


def _image_size(document: Any, path: Path) -> tuple[int, int]:
    """Returns the size of the labeled image; old versions state it only by the image itself."""
    keys = ("imageWidth", "imageHeight")
    if all(document.get(key) is None for key in keys):
        encoded = document.get("imageData")
        if isinstance(encoded, str):
            with _picture(encoded, '"imageData"', most_pixels_in(len(encoded))) as picture:
                return picture.size
        if (beside := picture_of(path)) is not None:
            with reading_picture(str(beside), "Replace it."), open_photograph(beside) as picture:
                return picture.size
    return size_of(document, keys, "the file")


def _outline(kind: str, points: list[Any], place: str) -> Polygon:
    """Returns the corners of a polygon, a rectangle of two or four corners, or a circle of its center and a point."""
    corners = outline_points(points, place)
    if kind == "polygon" or (len(corners) == 4 and kind != "circle"):
        return corners
    if len(corners) != 2:
        raise _wrong_count(kind, len(corners), place)
    (x0, y0), (x1, y1) = corners
    if kind != "circle":
        return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    (x, y), edge = points
    radius = math.dist((x, y), edge)
    angles = np.linspace(0, 2 * np.pi, int(np.clip(4 * radius, 16, 720)), endpoint=False)
    return tuple(zip((x + radius * np.cos(angles)).tolist(), (y + radius * np.sin(angles)).tolist(), strict=True))


def _mask(encoded: Any, points: list[Any], width: int, height: int, place: str) -> Mask:
    """Returns a mask over the whole image from the PNG of its part, which lies between two corners."""
    corners = outline_points(points, place)
    if len(corners) != 2:
        raise _wrong_count("mask", len(corners), place)
    if not isinstance(encoded, str):
        raise GenLangSplatError(f"The mask of {place} is missing; expected a PNG in base64. Export it again.")
    with _picture(encoded, f"The mask of {place}", max(FREE_PIXELS, (width + 1) * (height + 1))) as picture:
        if picture.width > width + 1 or picture.height > height + 1:
            raise GenLangSplatError(
                f"The mask of {place} has {picture.width}x{picture.height} pixels, but the image has {width}x{height}. "
                "Correct it."
            )
        part = np.array(eight_bit(picture, place).convert("L")) > 0
    first = np.min(corners, axis=0)
    left, top = (int(np.clip(value, -side, side)) for value, side in zip(first, (width, height), strict=True))
    mask = np.zeros((height, width), bool)
    part = part[max(-top, 0) : height - top, max(-left, 0) : width - left]
    top, left = max(top, 0), max(left, 0)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def _picture(encoded: str, place: str, most_pixels: int) -> Image.Image:
    """Reads an image in base64 that may have so many pixels."""
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise GenLangSplatError(f"{place} is not base64 ({error}). Repair the file.") from error
    with reading_picture(place, "Repair the file."):
        picture = open_picture(io.BytesIO(content), most_pixels)
        picture.load()
        return picture


def _wrong_count(kind: str, count: int, place: str) -> GenLangSplatError:
    return GenLangSplatError(
        f"The {kind} of {place} has {count} points; expected two corners{' or four' if kind != 'mask' else ''}, and "
        "for a circle its center and a point on it. Correct it."
    )
