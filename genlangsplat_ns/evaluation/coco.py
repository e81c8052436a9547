"""Labels in the format of COCO: one JSON file for all views, from CVAT, Label Studio, Roboflow and others."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_files import (
    category_of,
    check_size,
    field_of,
    outline_points,
    outline_problem,
    photograph_name,
)
from genlangsplat_ns.evaluation.labels import LabeledMask, LabeledObject, Polygon, ViewLabels
from genlangsplat_ns.evaluation.run_lengths import mask_of_runs

Identifier = int | str


def parse_coco(document: Any, path: Path) -> list[ViewLabels]:
    """Reads the labels of all views that have annotations, from the content of their file.

    An annotation is one or several polygons, or a mask as lengths of runs, compressed or not. A box is the outline
    where there is nothing else, and is listed in `notes`. Annotations that cover no pixel are listed in `skipped`.

    Raises:
        GenLangSplatError: If a required entry is missing or unusable.
    """
    categories: dict[Identifier, str | None] = {}
    for index, entry in enumerate(field_of(document, "categories", list, path, "the file")):
        place = f"category {index + 1}"
        categories[_identifier(entry, "id", path, place)] = category_of(entry, "name", path, place)
    images: dict[Identifier, Any] = {}
    for index, entry in enumerate(field_of(document, "images", list, path, "the file")):
        place = f"image {index + 1}"
        number = _identifier(entry, "id", path, place)
        if number in images:
            raise GenLangSplatError(f"Two images in the labels {path} have the id {number}. Export the file again.")
        images[number] = entry
    annotations: dict[Identifier, list[tuple[str, Any]]] = defaultdict(list)
    for index, entry in enumerate(field_of(document, "annotations", list, path, "the file")):
        place = f"annotation {index + 1}"
        number = _identifier(entry, "image_id", path, place)
        if number not in images:
            raise GenLangSplatError(
                f"The {place} in the labels {path} belongs to an image with the id {number}, which the file does not "
                "list. Export it again."
            )
        annotations[number].append((place, entry))
    return [_view(images[number], found, categories, path) for number, found in annotations.items()]


def join_views(labels: list[tuple[Path, ViewLabels]]) -> list[tuple[Path, ViewLabels]]:
    """Joins the labels of photographs that several files of one folder label.

    Raises:
        GenLangSplatError: If the files disagree about the size of a photograph.
    """
    joined: dict[tuple[Path, str], tuple[Path, ViewLabels]] = {}
    for path, view in labels:
        place = path.parent, view.name
        first, before = joined.get(place, (path, view))
        if before is not view:
            if (before.width, before.height) != (view.width, view.height):
                raise GenLangSplatError(
                    f"The photograph {view.name} has {before.width}x{before.height} pixels in the labels {first} and "
                    f"{view.width}x{view.height} in {path}. Remove one of the files."
                )
            objects, skipped = before.objects + view.objects, before.skipped + view.skipped
            view = ViewLabels(
                view.name, view.width, view.height, objects, skipped, before.picture, before.notes + view.notes
            )
        joined[place] = first, view
    return list(joined.values())


def _view(
    image: Any, annotations: list[tuple[str, Any]], categories: dict[Identifier, str | None], path: Path
) -> ViewLabels:
    """Reads the annotations of one image."""
    place = f"the image {image.get('id')}"
    name = _photograph(image, path, place)
    width, height = (field_of(image, key, int, path, place) for key in ("width", "height"))
    check_size(width, height, path)
    objects: list[LabeledObject | LabeledMask] = []
    skipped, boxes = [], []
    for label, entry in annotations:
        number = _identifier(entry, "category_id", path, label)
        if number not in categories:
            raise GenLangSplatError(
                f"The {label} in the labels {path} has the category {number}, which the file does not list. Export it "
                "again."
            )
        category = categories[number]
        if category is None:
            continue
        found = _object(category, entry, width, height, path, label)
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
    return ViewLabels(name, width, height, tuple(objects), tuple(skipped), None, notes)


def _photograph(image: Any, path: Path, place: str) -> str:
    """Returns the path of a photograph; Roboflow renames the file and keeps its name under `extra`."""
    name = photograph_name(field_of(image, "file_name", str, path, place))
    extra = image.get("extra")
    own = extra.get("name") if isinstance(extra, dict) else None
    if isinstance(own, str) and re.search(r"\.rf\.\w+\.\w+$", name):
        name = photograph_name(own) or name
    if not name:
        raise GenLangSplatError(f'Found a blank "file_name" of {place} in the labels {path}. Correct it.')
    return name


def _outlined(shape: Any) -> bool:
    """Whether a segmentation has an outline; some programs write an empty one beside a box."""
    return any(ring != [] for ring in shape) if isinstance(shape, list) else bool(shape)


def _object(
    category: str, entry: Any, width: int, height: int, path: Path, place: str
) -> LabeledObject | LabeledMask | str:
    """Reads the shape of an annotation; returns why it covers no pixel if it does not."""
    shape = entry.get("segmentation")
    if isinstance(shape, dict):
        return _mask(category, shape, width, height, path, place)
    if _outlined(shape):
        rings = _rings(shape, path, place)
    elif entry.get("bbox") is not None:
        rings = [_corners(entry["bbox"], path, place)]
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


def _mask(category: str, shape: Any, width: int, height: int, path: Path, place: str) -> LabeledMask | str:
    """Reads a mask in lengths of runs."""
    size = shape.get("size")
    if size != [height, width]:
        raise GenLangSplatError(
            f"The mask of {place} in the labels {path} has the size {size}, but its image has {[height, width]} "
            "(height, width). Export the file again."
        )
    try:
        mask = mask_of_runs(shape.get("counts"), width, height)
    except GenLangSplatError as error:
        raise GenLangSplatError(f"In {place} of the labels {path}, {error}. Export the file again.") from error
    return LabeledMask(category, mask) if mask.any() else "its mask is empty"


def _rings(shape: Any, path: Path, place: str) -> list[Polygon]:
    """Returns the outlines of an annotation: lists of x, y, x, y, ... or of [x, y]; one may come without its list."""
    if isinstance(shape, list) and not isinstance(shape[0], list):
        shape = [shape]
    if not isinstance(shape, list) or not all(isinstance(ring, list) for ring in shape):
        raise GenLangSplatError(f"The outline of {place} in the labels {path} is no list of polygons. Correct it.")
    rings = []
    for ring in shape:
        flat = bool(ring) and not isinstance(ring[0], list)
        if flat and len(ring) % 2:
            raise GenLangSplatError(
                f"The outline of {place} in the labels {path} has an odd number of coordinates. Correct it."
            )
        rings.append(outline_points([ring[i : i + 2] for i in range(0, len(ring), 2)] if flat else ring, path, place))
    return rings


def _corners(box: Any, path: Path, place: str) -> Polygon:
    """Returns the corners of a box, given by its left, top, width and height."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise GenLangSplatError(f'The "bbox" of {place} in the labels {path} is not [x, y, width, height]. Correct it.')
    left, top, width, height = box
    (x0, y0), (x1, y1) = outline_points([[left, top], [left + width, top + height]], path, place)
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _identifier(entry: Any, key: str, path: Path, place: str) -> Identifier:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, (int, str)) or isinstance(value, bool):
        raise GenLangSplatError(f'The "{key}" of {place} in the labels {path} is no number. Export the file again.')
    return value
