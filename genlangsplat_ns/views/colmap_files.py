"""Reads the files of a COLMAP model, as text or binary, without trusting the counts in them.

Errors of the content are ValueErrors that say what was found and what was expected.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

BINARY_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    ("SIMPLE_DIVISION", 4),
    ("DIVISION", 5),
    ("SIMPLE_FISHEYE", 3),
    ("FISHEYE", 4),
    ("EUCM", 6),
    ("EQUIRECTANGULAR", 2),
)
"""Names and numbers of parameters of the camera models in binary files, by their number, up to COLMAP 4.2."""

_CAMERA = struct.Struct("<iiQQ")
_IMAGE = struct.Struct("<i7di")
_POINT = struct.Struct("<Q3d3BdQ")
_COUNT = struct.Struct("<Q")

OBSERVATION_BYTES = 24
"""An observed point of an image: position and number."""

TRACK_BYTES = 8
"""An image that sees a point."""

MAX_SIDE = 1 << 20
"""Pixels of a side of a photograph; a camera with more is damage."""


class UnknownModelError(ValueError):
    """A binary file has a camera model with an unknown number."""


@dataclass(frozen=True)
class ColmapCamera:
    """A camera: the name of its model, its size in pixels and its parameters."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """A photograph: its rotation (w, x, y, z) and translation from world to camera, its camera and its name."""

    rotation: tuple[float, ...]
    translation: tuple[float, ...]
    camera: int
    name: str


Points = tuple[Float64[np.ndarray, "count 3"], UInt8[np.ndarray, "count 3"]]
"""Positions and colors."""


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """Reads cameras.txt or cameras.bin; raises OSError or ValueError."""
    read: Callable[[Path], Iterator[tuple[int, ColmapCamera]]] = _cameras_text if _is_text(path) else _cameras_binary
    cameras = {}
    for number, camera in read(path):
        if not (0 < camera.width <= MAX_SIDE and 0 < camera.height <= MAX_SIDE):
            raise ValueError(f"camera {number} has {camera.width}x{camera.height} pixels")
        cameras[number] = camera
    return cameras


def read_images(path: Path) -> dict[int, ColmapImage]:
    """Reads images.txt or images.bin; raises OSError or ValueError."""
    images = {}
    for number, image in (_images_text if _is_text(path) else _images_binary)(path):
        if not np.isfinite((*image.rotation, *image.translation)).all() or not any(image.rotation):
            raise ValueError(f"the pose of image {number} ({image.name}) is not finite or has no rotation")
        if not image.name.strip() or "\0" in image.name:
            raise ValueError(f"image {number} has the name {image.name!r}")
        images[number] = image
    return images


def read_points(path: Path) -> Points:
    """Reads points3D.txt or points3D.bin; raises OSError or ValueError."""
    positions, colors = _points_text(path) if _is_text(path) else _points_binary(path)
    return positions, colors


def _is_text(path: Path) -> bool:
    return path.suffix == ".txt"


def _lines(path: Path) -> Iterator[str]:
    """Yields the lines of a text file that are no comments."""
    return (line for line in path.read_text(encoding="utf-8-sig").splitlines() if not line.lstrip().startswith("#"))


def _cameras_text(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for line in _lines(path):
        words = line.split()
        if not words:
            continue
        if len(words) < 5:
            raise ValueError(f"it has the line {line[:60]!r}, expected a number, a model, two sizes and parameters")
        number, width, height = (_integer(words[column]) for column in (0, 2, 3))
        yield number, ColmapCamera(words[1], width, height, tuple(map(float, words[4:])))


def _cameras_binary(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    data = path.read_bytes()
    (count,), place = _at(data, _COUNT, 0)
    for _ in range(count):
        (number, kind, width, height), place = _at(data, _CAMERA, place)
        if not 0 <= kind < len(BINARY_MODELS):
            raise UnknownModelError(f"it has a camera model with the number {kind}, which is not supported here")
        model, terms = BINARY_MODELS[kind]
        parameters, place = _at(data, struct.Struct(f"<{terms}d"), place)
        yield number, ColmapCamera(model, width, height, parameters)


def _images_text(path: Path) -> Iterator[tuple[int, ColmapImage]]:
    lines = _lines(path)
    for line in lines:
        if not line.strip():
            continue
        # Names may have spaces.
        words = line.split(maxsplit=9)
        if len(words) < 10:
            raise ValueError(f"{path.name} has the line {line[:60]!r}, expected ten fields")
        values = tuple(map(float, words[1:8]))
        yield _integer(words[0]), ColmapImage(values[:4], values[4:], _integer(words[8]), words[9].strip())
        # The next line has the observed points, and may be empty.
        next(lines, None)


def _images_binary(path: Path) -> Iterator[tuple[int, ColmapImage]]:
    data = path.read_bytes()
    (count,), place = _at(data, _COUNT, 0)
    for _ in range(count):
        (number, *values, camera), place = _at(data, _IMAGE, place)
        end = data.find(b"\0", place)
        if end < 0:
            raise ValueError(f"it ends within the name of image {number}")
        name = data[place:end].decode("utf-8")
        (observed,), place = _at(data, _COUNT, end + 1)
        place += OBSERVATION_BYTES * observed
        if place > len(data):
            raise ValueError(f"it ends within the {observed:,} points of image {number}")
        yield number, ColmapImage(tuple(values[:4]), tuple(values[4:]), camera, name)


def _points_text(path: Path) -> Points:
    rows = [line.split(maxsplit=7)[:7] for line in _lines(path) if line.strip()]
    short = next((row for row in rows if len(row) < 7), None)
    if short is not None:
        raise ValueError(f"it has the line {' '.join(short)[:60]!r}, expected a number, a position and a color")
    positions = np.array([[float(word) for word in row[1:4]] for row in rows], dtype=np.float64).reshape(-1, 3)
    return positions, _bytes([[_integer(word) for word in row[4:7]] for row in rows])


def _points_binary(path: Path) -> Points:
    data = path.read_bytes()
    (count,), place = _at(data, _COUNT, 0)
    positions, colors = [], []
    for number in range(count):
        (_, *position, red, green, blue, _, track), place = _at(data, _POINT, place)
        place += TRACK_BYTES * track
        if place > len(data):
            raise ValueError(f"it ends within point {number + 1:,} of {count:,}")
        positions.append(position)
        colors.append([red, green, blue])
    return np.array(positions, dtype=np.float64).reshape(-1, 3), _bytes(colors)


def _bytes(colors: list[list[int]]) -> UInt8[np.ndarray, "count 3"]:
    if any(not 0 <= value <= 255 for color in colors for value in color):
        raise ValueError("it has colors that are not from 0 to 255")
    return np.array(colors, dtype=np.uint8).reshape(-1, 3)


def _integer(word: str) -> int:
    number = int(word)
    if abs(number) >= 1 << 63:
        raise ValueError(f"it has the number {word[:30]}, expected at most 63 bits")
    return number


def _at(data: bytes, form: struct.Struct, place: int) -> tuple[tuple[Any, ...], int]:
    """Unpacks values at a place, and returns the place after them."""
    if place + form.size > len(data):
        raise ValueError(f"it has {len(data):,} bytes, expected at least {place + form.size:,}")
    return form.unpack_from(data, place), place + form.size
