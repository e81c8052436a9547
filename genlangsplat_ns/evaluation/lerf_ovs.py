"""Labels in the LERF-OVS format, which ISAT writes: one JSON file per labeled view, with one polygon per object."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

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
from genlangsplat_ns.evaluation.labels import Box, LabeledObject, ViewLabels
from genlangsplat_ns.utils.files import atomic_path


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


def parse_lerf_ovs(document: Any, path: Path) -> list[ViewLabels]:
    """Reads the labels of a view from the content of their file.

    An object with fewer than three distinct points or an outline completely outside the image covers no pixel. It is
    skipped and listed in `skipped`. Outlines that cross the image border are clipped when they are filled. Points are
    truncated to whole pixels, as in the official evaluation; boxes keep their coordinates. ISAT's own class
    `__background__` is no label.
    """
    info = field_of(document, "info", dict, "the file")
    width, height = size_of(info, ("width", "height"), "info")
    name = photograph_name(field_of(info, "name", str, "info"))
    if "/" not in name and isinstance(info.get("folder"), str):
        # ISAT stores the folder of the photograph.
        name = photograph_name(f"{info['folder']}/{name}")
    objects, skipped = [], []
    for index, entry in enumerate(field_of(document, "objects", list, "the file")):
        place = f"object {index + 1}"
        category = category_of(entry, "category", place)
        if category is None:
            continue
        polygon = outline_points(field_of(entry, "segmentation", list, place), place)
        problem = outline_problem(polygon, width, height)
        if problem is not None:
            skipped.append(f"{path.name}, {place} ({category}): {problem}")
            continue
        item = LabeledObject.from_polygon(category, polygon)
        objects.append(replace(item, box=_box(entry.get("bbox", item.box), place)))
    return [ViewLabels(name or path.stem, width, height, tuple(objects), tuple(skipped), picture_of(path))]


def _box(values: Any, place: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise GenLangSplatError(f'The "bbox" of {place} is not [x0, y0, x1, y1]. Correct it.') from error
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
