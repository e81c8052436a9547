"""Writes one drawn object in the label formats of several tools."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 20, 12

CORNERS = [[2.0, 3.0], [9.0, 3.0], [9.0, 8.0], [5.0, 10.0], [2.0, 8.0]]
"""The outline of a cup."""


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def isat(name: str = "frame_1.jpg", category: str = "cup", **info: Any) -> dict[str, Any]:
    """A file of ISAT."""
    item = {"category": category, "group": 1, "segmentation": CORNERS, "area": 40.0, "layer": 1.0, "iscrowd": False}
    size = {"width": WIDTH, "height": HEIGHT, "depth": 3}
    return {"info": {"description": "ISAT", "name": name, **size, "note": "", **info}, "objects": [item]}


def shape(points: Any = CORNERS, kind: str | None = "polygon", label: str = "cup", **more: Any) -> dict[str, Any]:
    """A shape of labelme."""
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def labelme(*shapes: dict[str, Any], name: str = "frame_1.jpg", **more: Any) -> dict[str, Any]:
    """A file of labelme."""
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None, **size, **more}


def png(pixels: np.ndarray) -> str:
    """An image in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def annotation(segmentation: Any, image: int = 1, category: int = 1, **more: Any) -> dict[str, Any]:
    """An annotation of COCO."""
    return {"id": 1, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = ("frame_1.jpg",)) -> dict[str, Any]:
    """A file of COCO."""
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in enumerate(names, 1)
    ]
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "__background__"}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def run_lengths(mask: np.ndarray) -> list[int]:
    """The lengths of runs down the columns, counted one pixel at a time."""
    counts, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def compressed(counts: list[int]) -> str:
    """The string of run lengths, written bit by bit as in COCO's C code."""
    text = ""
    for index, count in enumerate(counts):
        value = count - (counts[index - 2] if index > 2 else 0)
        more = True
        while more:
            digit, value = value % 32, value // 32
            more = value != (-1 if digit >= 16 else 0)
            text += chr(48 + digit + 32 * more)
    return text
