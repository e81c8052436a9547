"""Seed points: colored points of a PLY file that initialize Gaussians."""

from __future__ import annotations

import logging
from pathlib import Path
from shlex import quote

import numpy as np
import plyfile
from jaxtyping import Float64, Num, UInt8

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.ply import CONSTANT, read_offset
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

HARMONIC = 0.28209479177387814
"""Value of the constant spherical harmonic."""

TYPES = {
    **dict(zip(("char", "uchar", "short", "ushort", "int", "uint"), ("i1", "u1", "i2", "u2", "i4", "u4"), strict=True)),
    **{f"{sign}int{8 * size}": f"{sign or 'i'}{size}" for sign in ("", "u") for size in (1, 2, 4)},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
"""numpy's names of the types in a PLY file."""

MAX_HEADER_LINES = 1000

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
    names = {_plain(item.name): item.name for item in vertices.properties}
    try:
        positions = np.stack([vertices[names[axis]].astype(np.float64) for axis in "xyz"], axis=1)
        colors = _colors(vertices, names)
    except (TypeError, ValueError) as error:
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


def _read_vertices(path: Path) -> plyfile.PlyElement:
    """Returns the first element of a PLY file that has positions."""
    if not path.is_file():
        raise GenLangSplatError(
            f"There are no seed points at {path}; expected a PLY file. Restore it, or correct or remove ply_file_path "
            "in transforms.json."
        )
    wrong = wrong_content(path)
    if wrong is not None:
        raise GenLangSplatError(f"The seed points {path} cannot be read: the file is {wrong}.")
    try:
        data = _read_ply(path)
        return next(
            item for item in data.elements if {"x", "y", "z"} <= {_plain(part.name) for part in item.properties}
        )
    except (plyfile.PlyParseError, plyfile.PlyHeaderParseError, ValueError, StopIteration) as error:
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


def _read_ply(path: Path) -> plyfile.PlyData:
    try:
        # The faces of most meshes are triangles, which are then not read one by one.
        triangles = {"face": {"vertex_indices": 3, "vertex_index": 3}}
        return _read_text(path) or plyfile.PlyData.read(str(path), known_list_len=triangles)
    except (plyfile.PlyParseError, ValueError, LookupError):
        return plyfile.PlyData.read(str(path))


def _read_text(path: Path) -> plyfile.PlyData | None:
    """Reads the first element of a text file, if it has no lists; plyfile takes six seconds for a million lines."""
    header: list[list[str]] = []
    columns: list[tuple[str, str | None]] = []
    count, num_elements = 0, 0
    with path.open(encoding="ascii", errors="replace") as file:
        while len(header) < MAX_HEADER_LINES and header[-1:] != [["end_header"]]:
            header.append(file.readline().split())
        for words in header:
            num_elements += words[:1] == ["element"]
            if num_elements == 1 and words[:1] == ["element"]:
                name, count = words[1], int(words[2])
            elif num_elements == 1 and words[:1] == ["property"]:
                columns.append((words[-1], TYPES.get(words[1])))
        if ["format", "ascii", "1.0"] not in header or not count or None in dict(columns).values():
            return None
        rows = np.loadtxt(file, dtype=columns, comments=None, max_rows=count, ndmin=1)
    if len(rows) != count:
        raise ValueError(f"it has {len(rows)} of {count} vertices")
    return plyfile.PlyData([plyfile.PlyElement.describe(rows, name)])


def _plain(name: str) -> str:
    return name.lower().removeprefix("scalar_")


def _colors(vertices: plyfile.PlyElement, names: dict[str, str]) -> UInt8[np.ndarray, "count 3"]:
    """Returns the colors of vertices; `names` are the properties by plain name."""
    if set(CONSTANT) <= names.keys():
        harmonics = np.stack([vertices[names[name]].astype(np.float64) for name in CONSTANT], axis=1)
        return _as_bytes(np.clip(harmonics * HARMONIC + 0.5, 0.0, 1.0))
    for channels in COLOR_NAMES:
        if set(channels) <= names.keys():
            return _as_bytes(np.stack([np.asarray(vertices[names[name]]) for name in channels], axis=1))
    return np.full((vertices.count, 3), GRAY, dtype=np.uint8)


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
