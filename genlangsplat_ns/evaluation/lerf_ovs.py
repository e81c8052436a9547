"""Labels in the LERF-OVS format: one JSON file per labeled view, with one polygon and one box per object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import Box, LabeledObject, Polygon, ViewLabels
from genlangsplat_ns.utils.files import atomic_path

IMAGE_SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png")


def write_labels(path: Path, labels: ViewLabels) -> None:
    """Writes the labels of a view as LERF-OVS JSON.

    Raises:
        GenLangSplatError: If an object is a mask instead of an outline.
    """
    outlines = [item for item in labels.objects if isinstance(item, LabeledObject)]
    if len(outlines) < len(labels.objects):
        raise GenLangSplatError(
            f"Found a mask among the labels for {path}; expected outlines, which LERF-OVS stores. Convert it with "
            "mask_polygons first."
        )
    document = {
        "info": {"name": labels.name, "width": labels.width, "height": labels.height, "depth": 3, "note": ""},
        "objects": [
            {
                "category": item.category,
                "group": index + 1,
                "segmentation": [list(point) for point in item.polygon],
                "area": float(cv2.contourArea(np.asarray(item.polygon, np.float32))),
                "layer": float(index + 1),
                "bbox": list(item.box),
                "iscrowd": False,
                "note": "",
            }
            for index, item in enumerate(outlines)
        ],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n")


def read_labels(path: Path) -> ViewLabels:
    """Reads the labels of a view.

    An object with fewer than three distinct points or an outline completely outside the image covers no pixel. It is
    skipped and listed in `skipped`. Outlines that cross the image border are clipped when they are filled. Points are
    truncated to whole pixels, as in the official evaluation; boxes keep their coordinates.

    Raises:
        GenLangSplatError: If the file is missing, is not JSON, or lacks a required field.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GenLangSplatError(
            f"Cannot read the labels {path}: {error.strerror}. Give a folder of readable label files."
        ) from error
    except ValueError as error:
        raise GenLangSplatError(
            f"The labels {path} are not valid JSON ({error}); expected a LERF-OVS label file. Remove or repair it."
        ) from error
    info = _field(document, "info", dict, path, "the file")
    width, height = _field(info, "width", int, path, "info"), _field(info, "height", int, path, "info")
    if width < 1 or height < 1:
        raise GenLangSplatError(
            f"Found an image size of {width}x{height} in the labels {path}; expected positive numbers. Correct it."
        )
    name = _field(info, "name", str, path, "info")
    objects, skipped = [], []
    for index, entry in enumerate(_field(document, "objects", list, path, "the file")):
        place = f"object {index + 1}"
        category = _field(entry, "category", str, path, place).strip()
        polygon = _polygon(_field(entry, "segmentation", list, path, place), path, place)
        if not category:
            raise GenLangSplatError(f"Found a blank category for {place} in the labels {path}. Give it a name.")
        if len(set(polygon)) < 3:
            skipped.append(
                f"{path.name}, {place} ({category}): {len(set(polygon))} distinct points, an outline needs 3"
            )
            continue
        item = LabeledObject.from_polygon(category, polygon)
        x0, y0, x1, y1 = item.box
        if x1 < 0 or y1 < 0 or x0 > width - 1 or y0 > height - 1:
            skipped.append(f"{path.name}, {place} ({category}): its outline is outside the {width}x{height} image")
            continue
        objects.append(LabeledObject(category, polygon, _box(entry.get("bbox", item.box), path, place)))
    picture = next((found for suffix in IMAGE_SUFFIXES if (found := path.with_suffix(suffix)).is_file()), None)
    return ViewLabels(name, width, height, tuple(objects), tuple(skipped), picture)


def read_label_folder(folder: Path) -> dict[str, ViewLabels]:
    """Reads every `*.json` file of a label folder, keyed by the stem of the view's file name.

    Views are matched by name only, because the index of a view depends on the split.

    Raises:
        GenLangSplatError: If the folder has no label file, a file is unusable, or two files name the same view.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise GenLangSplatError(
            f"Found no label file (*.json) in {folder}; expected one per labeled view. Give the folder that has them."
        )
    labels: dict[str, ViewLabels] = {}
    for path in paths:
        view = read_labels(path)
        stem = Path(view.name).stem
        if stem in labels:
            raise GenLangSplatError(f"Found two label files in {folder} for the view {stem}. Keep one of them.")
        labels[stem] = view
    return labels


def _field(container: Any, key: str, kind: type, path: Path, place: str) -> Any:
    """Returns a required entry of the JSON after checking its type."""
    value = container.get(key) if isinstance(container, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "nothing" if value is None else type(value).__name__
        raise GenLangSplatError(
            f'Found {found} for "{key}" of {place} in the labels {path}; expected {kind.__name__} as in LERF-OVS. '
            "Correct the file."
        )
    return value


def _polygon(points: list[Any], path: Path, place: str) -> Polygon:
    try:
        polygon = tuple((float(np.trunc(x)), float(np.trunc(y))) for x, y in points)
    except (TypeError, ValueError) as error:
        raise GenLangSplatError(
            f"The outline of {place} in the labels {path} is not one list of [x, y] points; LERF-OVS has one ring per "
            "object. Correct it."
        ) from error
    if not np.isfinite(polygon).all():
        raise GenLangSplatError(
            f"The outline of {place} in the labels {path} has NaN or infinite coordinates. Correct it."
        )
    return polygon


def _box(values: Any, path: Path, place: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise GenLangSplatError(
            f'The "bbox" of {place} in the labels {path} is not [x0, y0, x1, y1]. Correct it.'
        ) from error
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
