"""Seed points: colored points of a PLY file that initialize Gaussians."""

from __future__ import annotations

import logging
from pathlib import Path
from shlex import quote

import numpy as np
from jaxtyping import Float64, Num, UInt8

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.packing import HARMONIC
from genlangsplat_ns.scene_io.ply import CONSTANT, read_offset
from genlangsplat_ns.scene_io.ply_file import PlyElement, read_elements
from genlangsplat_ns.utils.wrong_files import wrong_content

LOGGER = logging.getLogger(__name__)

GRAY = 128

COLOR_NAMES = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    *((name,) * 3 for name in ("intensity", "gray", "grey", "luminance")),
)
"""Names of color properties, the preferred ones first, without upper case and without CloudCompare's `scalar_`."""

ADVICE = "Replace it, or remove ply_file_path from transforms.json to start from random points."


def read_seed_points(path: Path) -> tuple[Float64[np.ndarray, "count 3"], UInt8[np.ndarray, "count 3"]]:
    """Reads the positions and colors of a point cloud in a text or binary PLY file.

    Positions are in double precision: those of georeferenced clouds have up to ten digits. Points with NaN or infinity
    are dropped with a warning. Colors may have any name of `COLOR_NAMES` and any type: see `_as_bytes`. Gaussian splats
    have the colors of their constant harmonics. Points without colors are gray.

    Raises:
        GenLangSplatError: The file is missing or not a PLY file, its vertices have no positions, or no position is
            finite.
    """
    vertices = _read_vertices(path)
    names = {_plain(name): name for name in vertices.names}
    try:
        positions = np.stack([vertices[names[axis]].astype(np.float64) for axis in "xyz"], axis=1)
        colors = _colors(vertices, names)
    except ValueError as error:
        raise GenLangSplatError(
            f"The positions or colors of the seed points {path} are no numbers ({error}); expected one number per "
            f"property. {ADVICE}"
        ) from error
    positions += read_offset(path)
    finite = np.isfinite(positions).all(axis=1)
    if len(finite) and not finite.any():
        raise GenLangSplatError(
            f"None of the {len(finite):,} seed points of {path} has a finite position; all have NaN or infinity. "
            f"{ADVICE}"
        )
    if not finite.all():
        dropped = f"{np.count_nonzero(~finite):,} of {len(finite):,}"
        LOGGER.warning("%s: %s seed points are dropped because they have NaN or infinity.", path, dropped)
        positions, colors = positions[finite], colors[finite]
    return positions, colors


def _read_vertices(path: Path) -> PlyElement:
    """Returns the first element of a PLY file that has positions."""
    if not path.is_file():
        raise GenLangSplatError(
            f"There are no seed points at {path}; expected a PLY file. Restore it, or correct or remove ply_file_path "
            "in transforms.json."
        )
    wrong = wrong_content(path)
    if wrong is not None:
        raise GenLangSplatError(f"The seed points {path} cannot be read: the file is {wrong}. {ADVICE}")
    try:
        return next(item for item in read_elements(path) if {"x", "y", "z"} <= {_plain(name) for name in item.names})
    except (ValueError, StopIteration) as error:
        found = str(error) or "no element has these properties"
        raise GenLangSplatError(
            f"The seed points {path} cannot be read ({found}); expected a PLY file with vertices x, y, z. {ADVICE}"
            f"{_conversion(path)}"
        ) from error


def _conversion(path: Path) -> str:
    """Returns how another format than PLY is converted."""
    with path.open("rb") as file:
        if file.read(3) == b"ply":
            return ""
    source, target = quote(str(path)), quote(str(path.with_name("points.ply")))
    if path.suffix.lower() in (".las", ".laz"):
        return f" `pdal translate {source} {target}` converts it."
    if path.stem == "points3D":
        model = quote(str(path.parent))
        return f" `colmap model_converter --input_path {model} --output_path {target} --output_type PLY` converts it."
    return f" `CloudCompare -SILENT -O {source} -C_EXPORT_FMT PLY -SAVE_CLOUDS` converts many formats."


def _plain(name: str) -> str:
    return name.lower().removeprefix("scalar_")


def _colors(vertices: PlyElement, names: dict[str, str]) -> UInt8[np.ndarray, "count 3"]:
    """Returns the colors of vertices; `names` are the properties by plain name."""
    if set(CONSTANT) <= names.keys():
        harmonics = np.stack([vertices[names[name]].astype(np.float64) for name in CONSTANT], axis=1)
        return _as_bytes(np.clip(harmonics * HARMONIC + 0.5, 0.0, 1.0))
    for channels in COLOR_NAMES:
        if set(channels) <= names.keys():
            return _as_bytes(np.stack([np.asarray(vertices[names[name]]) for name in channels], axis=1))
    return np.full((len(vertices), 3), GRAY, dtype=np.uint8)


def _as_bytes(colors: Num[np.ndarray, "count 3"]) -> UInt8[np.ndarray, "count 3"]:
    """Converts colors to 8 bits. Other types than bytes have the smallest of these ranges that holds all values.

    Floats: 0 to 1, 0 to 255 or 0 to 65535; some programs overshoot 1 a little. Integers: 0 to 255 or 0 to 65535. NaN is
    gray.
    """
    if colors.dtype.itemsize == 1:
        return colors.astype(np.uint8)
    is_float = colors.dtype.kind == "f"
    values = np.where(np.isfinite(colors), colors, np.nan).astype(np.float32)
    largest = float(np.nanmax(values, initial=0.0))
    white = 1.0 if is_float and largest < 2.0 else 255.0 if largest <= 255.0 else 65535.0
    scaled = np.nan_to_num(values * np.float32(255.0 / white), nan=GRAY)
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)
