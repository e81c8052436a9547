"""Gaussians in SuperSplat's compressed PLY files: groups of 256, of which each has its own ranges of values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, UInt32

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.packing import (
    HARMONIC,
    as_arrays,
    from_arrays,
    from_largest_and_others,
    largest_and_others,
    logits_of,
    opacities_of,
)
from genlangsplat_ns.scene_io.ply import REST_COUNTS
from genlangsplat_ns.scene_io.ply_file import read_elements, write_elements
from genlangsplat_ns.scene_io.spatial_order import GROUP, spatial_order
from genlangsplat_ns.utils.files import atomic_path

POSITIONS, SCALES, COLORS = ("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b")
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")

VECTOR_BITS = (11, 10, 11)
"""Bits of the three numbers of a position or size."""

LARGEST_LOG_SCALE = 20.0
"""Logarithms of sizes are limited to this range."""

REST_RANGE = 8.0
"""Harmonics are stored as bytes from -4 to 4."""


def read_compressed_ply(path: Path) -> GaussianParameters:
    """Reads the Gaussians of a compressed PLY file.

    Raises:
        GenLangSplatError: The file is damaged, or lacks elements or properties of the format.
    """
    try:
        elements = {element.name: element.rows for element in read_elements(path)}
        chunks, vertices = elements["chunk"], elements["vertex"]
        count = len(vertices)
        # Each vertex has the ranges of its group.
        groups = np.arange(count) // GROUP
        if count and groups[-1] >= len(chunks):
            raise ValueError(f"it has {len(chunks):,} groups for {count:,} Gaussians")
        packed = [np.asarray(vertices[name]).astype(np.uint32) for name in PACKED]
        means = _unpack(packed[0], VECTOR_BITS) * _widths(chunks, POSITIONS)[groups] + _lows(chunks, POSITIONS)[groups]
        scales = _unpack(packed[2], VECTOR_BITS) * _widths(chunks, SCALES)[groups] + _lows(chunks, SCALES)[groups]
        colors = _unpack(packed[3], (8, 8, 8, 8))
        # The first versions of the format had no ranges of colors.
        if "min_r" in (chunks.dtype.names or ()):
            colors[:, :3] = colors[:, :3] * _widths(chunks, COLORS)[groups] + _lows(chunks, COLORS)[groups]
        rest = _harmonics(elements.get("sh"), count)
    except (OSError, ValueError, LookupError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as a compressed PLY file of SuperSplat ({error}). It is damaged or truncated; "
            "copy, download or export it again."
        ) from error
    others = (_unpack(packed[1], (10, 10, 10)) - 0.5) * np.sqrt(2.0)
    quats = from_largest_and_others((packed[1] >> 30).astype(np.int64), others)
    return from_arrays(path, means, scales, quats, (colors[:, :3] - 0.5) / HARMONIC, rest, logits_of(colors[:, 3]))


def write_compressed_ply(
    path: Path, gaussians: GaussianParameters, comments: Sequence[str] = ()
) -> Int64[np.ndarray, " count"]:
    """Writes Gaussians as a compressed PLY file, with these comments in its header.

    Returns:
        The order of the Gaussians in the file, which keeps neighbors together.
    """
    values = as_arrays(gaussians)
    order = spatial_order(values["means"])
    values = {name: array[order].astype(np.float64) for name, array in values.items()}
    count = len(order)
    scales = np.clip(values["scales"], -LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
    colors = values["features_dc"] * HARMONIC + 0.5
    ranges = [_ranges(array) for array in (values["means"], scales, colors)]
    positions, sizes, shades = (
        _relative(array, *low_high) for array, low_high in zip((values["means"], scales, colors), ranges, strict=True)
    )
    largest, others = largest_and_others(values["quats"])
    colors_and_opacity = np.column_stack([shades, opacities_of(values["opacities"])])
    packed = [
        _pack(positions, VECTOR_BITS),
        (largest.astype(np.uint32) << 30) | _pack(others / np.sqrt(2.0) + 0.5, (10, 10, 10)),
        _pack(sizes, VECTOR_BITS),
        _pack(colors_and_opacity, (8, 8, 8, 8)),
    ]
    names = [f"{end}_{name}" for group in (POSITIONS, SCALES, COLORS) for end in ("min", "max") for name in group]
    limits = np.column_stack([array for low_high in ranges for array in low_high])
    rest = values["features_rest"].transpose(0, 2, 1).reshape(count, -1)
    rest_bytes = np.clip(np.floor((rest / REST_RANGE + 0.5) * 256), 0, 255)
    elements = {
        "chunk": _rows(names, limits, "<f4"),
        "vertex": _rows(PACKED, np.column_stack(packed), "<u4"),
    }
    if rest.shape[1]:
        elements["sh"] = _rows([f"f_rest_{number}" for number in range(rest.shape[1])], rest_bytes, "u1")
    with atomic_path(path) as temporary:
        write_elements(temporary, elements, comments)
    return order


def _rows(columns: Sequence[str], rows: np.ndarray, kind: str) -> np.ndarray:
    table = np.ascontiguousarray(rows.astype(kind)).view(np.dtype([(column, kind) for column in columns]))
    return table.reshape(-1)


def _lows(chunks: np.ndarray, names: tuple[str, ...]) -> Float[np.ndarray, "groups 3"]:
    return np.stack([chunks[f"min_{name}"].astype(np.float64) for name in names], axis=1)


def _widths(chunks: np.ndarray, names: tuple[str, ...]) -> Float[np.ndarray, "groups 3"]:
    with np.errstate(invalid="ignore"):
        return np.stack([chunks[f"max_{name}"].astype(np.float64) for name in names], axis=1) - _lows(chunks, names)


def _ranges(values: Float[np.ndarray, "count 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and highest values of each group, rounded to float32."""
    starts = np.arange(0, len(values), GROUP)
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return low.astype(np.float32), high.astype(np.float32)


def _relative(values: Float[np.ndarray, "count 3"], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns values from 0 to 1 in the range of their group."""
    groups = np.arange(len(values)) // GROUP
    width = high.astype(np.float64) - low
    return (values - low[groups]) / np.where(width > 0, width, 1.0)[groups]


def _pack(values: Float[np.ndarray, "count numbers"], bits: tuple[int, ...]) -> UInt32[np.ndarray, " count"]:
    """Packs numbers from 0 to 1 into the bits of one integer, the first number into the highest bits."""
    packed = np.zeros(len(values), dtype=np.uint32)
    for column, width in enumerate(bits):
        most = (1 << width) - 1
        level = np.clip(np.round(values[:, column] * most), 0, most).astype(np.uint32)
        packed = (packed << np.uint32(width)) | level
    return packed


def _unpack(packed: UInt32[np.ndarray, " count"], bits: tuple[int, ...]) -> Float[np.ndarray, "count numbers"]:
    """Undoes `_pack`."""
    values = np.empty((len(packed), len(bits)))
    shift = sum(bits)
    for column, width in enumerate(bits):
        shift -= width
        most = (1 << width) - 1
        values[:, column] = ((packed >> np.uint32(shift)) & np.uint32(most)) / most
    return values


def _harmonics(rows: np.ndarray | None, count: int) -> Float[np.ndarray, "count bases 3"]:
    """Returns the harmonics of the element sh, ordered by channel in the file; the outermost bytes mean -4 and 4."""
    names = () if rows is None else (rows.dtype.names or ())
    if len(names) not in REST_COUNTS:
        raise ValueError(f"it has {len(names)} properties of harmonics instead of 0, 9, 24 or 45")
    if rows is None or not names:
        return np.zeros((count, 0, 3), dtype=np.float32)
    if len(rows) != count:
        raise ValueError(f"it has harmonics of {len(rows):,} of {count:,} Gaussians")
    table = np.stack([rows[f"f_rest_{number}"] for number in range(len(names))], axis=1).astype(np.float32)
    share = np.where(table == 0, 0.0, np.where(table == 255, 1.0, (table + 0.5) / 256))
    return ((share - 0.5) * REST_RANGE).reshape(count, 3, -1).transpose(0, 2, 1)
