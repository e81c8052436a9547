"""A small labeled run: two objects in two of three photographs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.evaluation.labels import LabeledObject, ViewLabels
from tests.demo.stand_in import StandInRun, WordEncoder

MEANINGS = {"a cup": "cup", "cup": "cup", "a book": "book", "book": "book"}


def square(category: str, x: float, y: float, size: float) -> LabeledObject:
    return LabeledObject.from_polygon(category, ((x, y), (x + size, y), (x + size, y + size), (x, y + size)))


@pytest.fixture
def labels() -> dict[str, ViewLabels]:
    return {
        "0001": ViewLabels("0001.png", 64, 48, (square("cup", 5.0, 6.0, 14.0), square("book", 36.0, 20.0, 20.0))),
        "0002": ViewLabels("0002.png", 64, 48, (square("cup", 30.0, 6.0, 16.0),)),
        "0003": ViewLabels("0003.png", 64, 48, ()),
    }


@pytest.fixture
def make_run(tmp_path, labels):
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name in labels:
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(images / f"{name}.png")

    def make(meanings=MEANINGS, name="stand-in", kind=StandInRun):
        return kind(images, labels, WordEncoder(meanings, name), held_out={"0002.png", "0003.png"})

    return make
