"""Labels in the LERF-OVS format: one JSON file per labelled view, a flat polygon and a box per object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.files import atomic_path

Box = tuple[float, float, float, float]
Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class LabeledObject:
    """One outlined object.

    Attributes:
        category: What it is; also the text of its query in LERF-OVS.
        polygon: Its outline as (x, y) pixels, one closed ring.
        box: Its bounding box x0, y0, x1, y1, both ends inside.
    """

    category: str
    polygon: Polygon
    box: Box

    @classmethod
    def from_polygon(cls, category: str, polygon: Iterable[Sequence[float]]) -> LabeledObject:
        """An object whose box is that of its outline."""
        points = tuple((float(x), float(y)) for x, y in polygon)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return cls(category, points, (min(xs), min(ys), max(xs), max(ys)))


@dataclass(frozen=True, eq=False)
class CategoryTruth:
    """All of a category in one view: the union of its outlines, and each one's box."""

    mask: Bool[np.ndarray, "height width"]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class ViewLabels:
    """The labels of one view.

    Attributes:
        name: File name of the view's picture.
        width: Width of the picture the outlines were drawn on.
        height: Its height.
        objects: The outlined objects.
        skipped: Objects of the file that could not be used, as sentences.
    """

    name: str
    width: int
    height: int
    objects: tuple[LabeledObject, ...]
    skipped: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """The distinct categories in their order of appearance: LERF-OVS asks each once per view."""
        return tuple(dict.fromkeys(item.category for item in self.objects))

    def truth(self, category: str) -> CategoryTruth:
        """The union of a category's outlines, filled as the official evaluation does, and their boxes."""
        mask = np.zeros((self.height, self.width), np.uint8)
        boxes = []
        for item in self.objects:
            if item.category == category:
                cv2.fillPoly(mask, [np.asarray(item.polygon, np.float64).astype(np.int32)], (1,))
                boxes.append(item.box)
        return CategoryTruth(mask.astype(bool), tuple(boxes))

    def resized(self, width: int, height: int) -> ViewLabels:
        """The labels for the same picture at another size."""
        if (width, height) == (self.width, self.height):
            return self
        x_scale, y_scale = width / self.width, height / self.height
        objects = tuple(
            LabeledObject(
                item.category,
                tuple((x * x_scale, y * y_scale) for x, y in item.polygon),
                (item.box[0] * x_scale, item.box[1] * y_scale, item.box[2] * x_scale, item.box[3] * y_scale),
            )
            for item in self.objects
        )
        return ViewLabels(self.name, width, height, objects, self.skipped)


def outline_mask(mask: Bool[np.ndarray, "height width"], min_pixels: int = 1) -> list[Polygon]:
    """Outlines of the pieces of a mask, largest first; a hole inside a piece is not drawn, a flat polygon has none.

    Args:
        mask: What to outline.
        min_pixels: Pieces of fewer pixels are left out.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    pieces = []
    for contour in contours:
        filled = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [contour], (1,))
        area = int(np.count_nonzero(filled))
        if len(contour) >= 3 and area >= min_pixels:
            pieces.append((area, tuple((float(x), float(y)) for x, y in contour[:, 0])))
    return [polygon for _, polygon in sorted(pieces, key=lambda piece: -piece[0])]


def write_labels(path: Path, labels: ViewLabels) -> None:
    """Writes the labels of a view as LERF-OVS JSON."""
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
            for index, item in enumerate(labels.objects)
        ],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n")


def read_labels(path: Path) -> ViewLabels:
    """Reads the labels of a view.

    An object without three distinct points, or with its outline wholly outside the picture, can be in no mask: it is
    skipped and named in `skipped`. Outlines that reach a little over the border are cut there when they are filled.

    Raises:
        GenLangSplatError: If the file is missing, is not JSON, or lacks what every label file has.
    """
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise GenLangSplatError(
            f"Cannot read the labels {path}: {error.strerror}. Give the folder of the labels."
        ) from error
    except ValueError as error:
        raise GenLangSplatError(
            f"Found no JSON in the labels {path} ({error}); expected a LERF-OVS label file. Remove or repair it."
        ) from error
    info = _field(document, "info", dict, path, "the file")
    width, height = _field(info, "width", int, path, "info"), _field(info, "height", int, path, "info")
    if width < 1 or height < 1:
        raise GenLangSplatError(f"Found a picture of {width}x{height} in the labels {path}; both must be positive.")
    name = _field(info, "name", str, path, "info")
    objects, skipped = [], []
    for index, entry in enumerate(_field(document, "objects", list, path, "the file")):
        place = f"object {index + 1}"
        category = _field(entry, "category", str, path, place).strip()
        polygon = _polygon(_field(entry, "segmentation", list, path, place), path, place)
        if not category:
            raise GenLangSplatError(f"Found a blank category of {place} in the labels {path}; name it.")
        if len(set(polygon)) < 3:
            skipped.append(f"{path.name}, {place} ({category}): {len(set(polygon))} distinct points, an outline has 3")
            continue
        item = LabeledObject.from_polygon(category, polygon)
        x0, y0, x1, y1 = item.box
        if x1 < 0 or y1 < 0 or x0 > width - 1 or y0 > height - 1:
            skipped.append(f"{path.name}, {place} ({category}): its outline is outside the {width}x{height} picture")
            continue
        objects.append(LabeledObject(category, polygon, _box(entry.get("bbox", item.box), path, place)))
    return ViewLabels(name, width, height, tuple(objects), tuple(skipped))


def read_label_folder(folder: Path) -> dict[str, ViewLabels]:
    """Reads every `*.json` of a label folder, keyed by the stem of the view's file name.

    Frames are matched by this name alone: the position of a view in a list changes with the split, its name does not.

    Raises:
        GenLangSplatError: If the folder holds no label file, a file is unusable, or two files name the same view.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise GenLangSplatError(f"Found no label file (*.json) in {folder}; expected one per labelled view.")
    labels: dict[str, ViewLabels] = {}
    for path in paths:
        view = read_labels(path)
        stem = Path(view.name).stem
        if stem in labels:
            raise GenLangSplatError(f"Found two label files in {folder} for the view {stem}; keep one of them.")
        labels[stem] = view
    skipped = [sentence for view in labels.values() for sentence in view.skipped]
    if skipped:
        CONSOLE.print(f"[yellow]Skipped {len(skipped)} unusable labels in {folder}: {'; '.join(skipped[:5])}[/yellow]")
    return labels


def _field(container: Any, key: str, kind: type, path: Path, place: str) -> Any:
    """A required entry of the JSON, checked for its type."""
    value = container.get(key) if isinstance(container, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "nothing" if value is None else type(value).__name__
        raise GenLangSplatError(
            f'Found {found} for "{key}" of {place} in the labels {path}; expected {kind.__name__} as in LERF-OVS.'
        )
    return value


def _polygon(points: list[Any], path: Path, place: str) -> Polygon:
    try:
        polygon = tuple((float(x), float(y)) for x, y in points)
    except (TypeError, ValueError) as error:
        raise GenLangSplatError(
            f"Found an outline of {place} in the labels {path} that is not one list of [x, y]; LERF-OVS has one ring."
        ) from error
    if not np.isfinite(polygon).all():
        raise GenLangSplatError(f"Found an outline of {place} in the labels {path} with numbers that are not finite.")
    return polygon


def _box(values: Any, path: Path, place: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise GenLangSplatError(
            f'Found a "bbox" of {place} in the labels {path} that is not [x0, y0, x1, y1]; correct it.'
        ) from error
    return x0, y0, x1, y1
