"""Labels in the format of COCO: one JSON file for all views, from CVAT, Label Studio, Roboflow and others."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_files import (
    category_of,
    field_of,
    outline_points,
    outline_problem,
    photograph_name,
    size_of,
)
from genlangsplat_ns.evaluation.labels import LabeledMask, LabeledObject, Mask, Polygon, ViewLabels

Identifier = int | str


def parse_coco(document: Any, path: Path) -> list[ViewLabels]:
    """Reads the labels of all views that have annotations, from the content of their file.

    An annotation is one or several polygons, or a mask as lengths of runs, compressed or not. A box is the outline
    where there is nothing else, and is listed in `notes`. Annotations that cover no pixel are listed in `skipped`.
    """
    categories = {
        _identifier(entry, "id", place): category_of(entry, "name", place)
        for place, entry in _entries(document, "categories", "category")
    }
    images: dict[Identifier, Any] = {}
    for place, entry in _entries(document, "images", "image"):
        number = _identifier(entry, "id", place)
        if number in images:
            raise GenLangSplatError(f"Two images have the id {number}. Export the file again.")
        images[number] = entry
    annotations: dict[Identifier, list[tuple[str, Any]]] = defaultdict(list)
    for place, entry in _entries(document, "annotations", "annotation"):
        number = _identifier(entry, "image_id", place)
        if number not in images:
            raise GenLangSplatError(
                f"The {place} belongs to an image with the id {number}, which the file does not list. Export it again."
            )
        annotations[number].append((place, entry))
    return [_view(images[number], found, categories, path) for number, found in annotations.items()]


def _entries(document: Any, key: str, noun: str) -> list[tuple[str, Any]]:
    """Returns the entries of a list of the file, and what messages call them."""
    return [(f"{noun} {index + 1}", entry) for index, entry in enumerate(field_of(document, key, list, "the file"))]


def join_views(labels: list[tuple[Path, ViewLabels]]) -> list[tuple[Path, ViewLabels]]:
    """Joins the labels of photographs that several files of one folder label."""
    joined: dict[tuple[Path, str], tuple[Path, ViewLabels]] = {}
    for path, view in labels:
        place = path.parent, view.name
        if place not in joined:
            joined[place] = path, view
            continue
        first, before = joined[place]
        if (before.width, before.height) != (view.width, view.height):
            raise GenLangSplatError(
                f"The photograph {view.name} has {before.width}x{before.height} pixels in the labels {first} and "
                f"{view.width}x{view.height} in {path}. Remove one of the files."
            )
        parts = {name: getattr(before, name) + getattr(view, name) for name in ("objects", "skipped", "notes")}
        joined[place] = first, replace(before, **parts)
    return list(joined.values())


def _view(
    image: Any, annotations: list[tuple[str, Any]], categories: dict[Identifier, str | None], path: Path
) -> ViewLabels:
    """Reads the annotations of one image."""
    place = f"the image {image.get('id')}"
    name = _photograph(image, place)
    width, height = size_of(image, ("width", "height"), place)
    objects: list[LabeledObject | LabeledMask] = []
    skipped, boxes = [], []
    for label, entry in annotations:
        number = _identifier(entry, "category_id", label)
        if number not in categories:
            raise GenLangSplatError(
                f"The {label} has the category {number}, which the file does not list. Export it again."
            )
        category = categories[number]
        if category is None:
            continue
        found = _object(category, entry, width, height, label)
        if isinstance(found, str):
            skipped.append(f"{path.name}, {label} ({category} in {name}): {found}")
            continue
        objects.append(found)
        if not _outlined(entry.get("segmentation")):
            boxes.append(category)
    notes: tuple[str, ...] = ()
    if boxes:
        shown = ", ".join(dict.fromkeys(boxes))
        notes = (f"{path.name}: {len(boxes)} objects in {name} have only a box, which is their outline ({shown})",)
    return ViewLabels(name, width, height, tuple(objects), tuple(skipped), notes=notes)


def _photograph(image: Any, place: str) -> str:
    """Returns the path of a photograph; Roboflow renames the file and keeps its name under `extra`."""
    name = photograph_name(field_of(image, "file_name", str, place))
    extra = image.get("extra")
    own = extra.get("name") if isinstance(extra, dict) else None
    if isinstance(own, str) and re.search(r"\.rf\.\w+\.\w+$", name):
        name = photograph_name(own) or name
    if not name:
        raise GenLangSplatError(f'Found a blank "file_name" of {place}. Correct it.')
    return name


def _outlined(shape: Any) -> bool:
    """Whether a segmentation has an outline; some programs write an empty one beside a box."""
    return any(ring != [] for ring in shape) if isinstance(shape, list) else bool(shape)


def _object(category: str, entry: Any, width: int, height: int, place: str) -> LabeledObject | LabeledMask | str:
    """Reads the shape of an annotation; returns why it covers no pixel if it does not."""
    shape = entry.get("segmentation")
    if isinstance(shape, dict):
        if shape.get("size") != [height, width]:
            raise GenLangSplatError(
                f"The mask of {place} has the size {shape.get('size')}, but its image has {[height, width]} (height, "
                "width). Export the file again."
            )
        mask = mask_of_runs(shape.get("counts"), width, height, place)
        return LabeledMask(category, mask) if mask.any() else "its mask is empty"
    if _outlined(shape):
        rings = _rings(shape, place)
    elif entry.get("bbox") is not None:
        rings = [_corners(entry["bbox"], place)]
    else:
        return "it has neither an outline nor a box"
    problems = [outline_problem(ring, width, height) for ring in rings]
    usable = [ring for ring, problem in zip(rings, problems, strict=True) if problem is None]
    if not usable:
        return str(problems[0])
    outlines = [LabeledObject.from_polygon(category, ring) for ring in usable]
    if len(outlines) == 1:
        return outlines[0]
    mask = np.zeros((height, width), bool)
    for outline in outlines:
        mask |= outline.pixels(width, height)
    return LabeledMask(category, mask)


def _rings(shape: Any, place: str) -> list[Polygon]:
    """Returns the outlines of an annotation: lists of x, y, x, y, ... or of [x, y]; one may come without its list."""
    if isinstance(shape, list) and not isinstance(shape[0], list):
        shape = [shape]
    if not isinstance(shape, list) or not all(isinstance(ring, list) for ring in shape):
        raise GenLangSplatError(f"The outline of {place} is no list of polygons. Correct it.")
    rings = []
    for ring in shape:
        flat = bool(ring) and not isinstance(ring[0], list)
        if flat and len(ring) % 2:
            raise GenLangSplatError(f"The outline of {place} has an odd number of coordinates. Correct it.")
        rings.append(outline_points([ring[i : i + 2] for i in range(0, len(ring), 2)] if flat else ring, place))
    return rings


def _corners(box: Any, place: str) -> Polygon:
    """Returns the corners of a box, given by its left, top, width and height."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise GenLangSplatError(f'The "bbox" of {place} is not [x, y, width, height]. Correct it.')
    left, top, width, height = box
    (x0, y0), (x1, y1) = outline_points([[left, top], [left + width, top + height]], place)
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _identifier(entry: Any, key: str, place: str) -> Identifier:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, (int, str)) or isinstance(value, bool):
        raise GenLangSplatError(f'The "{key}" of {place} is no number. Export the file again.')
    return value


def mask_of_runs(counts: Any, width: int, height: int, place: str = "the mask") -> Mask:
    """Returns the mask of lengths of runs, alternately without and with the object, down the columns.

    They are a list of counts or their compressed string.
    """
    if isinstance(counts, str):
        counts = decompress(counts, place)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise GenLangSplatError(f"The counts of {place} are not whole numbers from 0. Export the file again.")
    if sum(counts) != width * height:
        raise GenLangSplatError(
            f"The counts of {place} add up to {sum(counts)}, but the image of {width}x{height} has {width * height} "
            "pixels. Export the file again."
        )
    shown = np.arange(len(counts)) % 2 == 1
    return np.repeat(shown, counts).reshape(width, height).T


def decompress(text: str, place: str = "the mask") -> list[int]:
    """Returns the counts of a compressed string, as written by COCO's tools.

    Every character holds five bits of a number, the lowest first, and one that tells whether more follow; the last one
    is the sign. From the fourth on, numbers are differences from the count two places before.
    """
    counts: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - ord("0")
        if not 0 <= code < 64 or bits > 40:
            raise GenLangSplatError(
                f"The compressed counts of {place} contain {character!r} in a wrong place. Export the file again."
            )
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = bits = 0
    if bits:
        raise GenLangSplatError(f"The compressed counts of {place} are truncated. Export the file again.")
    return counts
