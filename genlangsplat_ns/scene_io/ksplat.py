"""Gaussians in .ksplat files of the viewer GaussianSplats3D: sections, each with buckets of neighbors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.packing import HARMONIC, from_arrays, log_scales, logits_of, truncated

HEADER = np.dtype(
    {
        "names": ["major", "minor", "sections", "count", "mode", "lowest", "highest"],
        "formats": ["u1", "u1", "<u4", "<u4", "<u2", "<f4", "<f4"],
        "offsets": [0, 1, 4, 16, 20, 36, 40],
        "itemsize": 4096,
    }
)
"""The beginning of a file; the lowest and highest harmonics are those that the bytes 0 and 255 stand for."""

SECTION = np.dtype(
    {
        "names": ["count", "room", "capacity", "buckets", "block", "bucket_size", "range", "full", "partial", "degree"],
        "formats": ["<u4", "<u4", "<u4", "<u4", "<f4", "<u2", "<u4", "<u4", "<u4", "<u2"],
        "offsets": [0, 4, 8, 12, 16, 20, 24, 32, 36, 40],
        "itemsize": 1024,
    }
)

NUMBERS = ("<f4", "<f2", "<f2")
"""Type of sizes and rotations by compression mode."""

HARMONICS = ("<f4", "<f2", "u1")
"""Type of harmonics by compression mode."""

DEFAULT_RANGE = 32767
"""Positions in buckets are unsigned integers; this one is the center of the bucket."""

DEFAULT_HARMONICS = 1.5

MAX_DEGREE = 3

BUCKET_BYTES = 12
"""A bucket is its center."""


def is_ksplat(start: bytes) -> bool:
    """Whether the first bytes of a file are a header of this format, which has no magic number."""
    if len(start) < HEADER.itemsize:
        return False
    header = np.frombuffer(start, HEADER, 1)[0]
    known = header["major"] == 0 and header["minor"] >= 1 and header["mode"] < len(NUMBERS)
    return bool(known and 0 < header["sections"] < 1 << 16 and header["count"] > 0 and not any(start[48:4096]))


def read_ksplat(path: Path) -> GaussianParameters:
    """Reads the Gaussians of a .ksplat file of any compression level.

    Raises:
        GenLangSplatError: The file is damaged, truncated or of another version.
    """
    data = np.fromfile(path, dtype=np.uint8)
    if not is_ksplat(data[: HEADER.itemsize].tobytes()):
        raise GenLangSplatError(
            f"{path} is named .ksplat, but has no header of that format; expected version 0.1 with compression level "
            "0, 1 or 2. Use another file, or convert it to a .ply file with the program that wrote it."
        )
    header = data[: HEADER.itemsize].view(HEADER)[0]
    first = HEADER.itemsize + int(header["sections"]) * SECTION.itemsize
    if first > len(data):
        raise truncated(path, ".ksplat", len(data), first)
    sections = data[HEADER.itemsize : first].view(SECTION)
    if int(sections["degree"].max()) > MAX_DEGREE:
        raise _damaged(path, f"harmonics of degree {sections['degree'].max()}")
    bases = (int(sections["degree"].max()) + 1) ** 2 - 1
    parts = []
    for section in sections:
        part, end = _read_section(path, data, first, header, section)
        parts.append((*part[:4], np.pad(part[4], ((0, 0), (0, bases - part[4].shape[1]), (0, 0)))))
        first = end
    means, scales, quats, colors, rest = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(means) != header["count"]:
        raise _damaged(path, f"{len(means):,} Gaussians in its sections and {header['count']:,} in its header")
    constant = (colors[:, :3] / 255 - 0.5) / HARMONIC
    return from_arrays(path, means, log_scales(scales), quats, constant, rest, logits_of(colors[:, 3] / 255))


def _read_section(
    path: Path, data: np.ndarray, first: int, header: np.void, section: np.void
) -> tuple[tuple[np.ndarray, ...], int]:
    """Returns positions, sizes, rotations, colors with opacities and harmonics of a section, and where it ends."""
    mode, count, degree = int(header["mode"]), int(section["count"]), int(section["degree"])
    buckets, partial = int(section["buckets"]), int(section["partial"])
    num_rest = 3 * ((degree + 1) ** 2 - 1)
    row = np.dtype(
        [
            ("means", "<f4" if mode == 0 else "<u2", 3),
            *(("scales", NUMBERS[mode], 3), ("quats", NUMBERS[mode], 4)),
            *(("colors", "u1", 4), ("rest", HARMONICS[mode], num_rest)),
        ]
    )
    lengths_end = first + 4 * partial
    rows_first = lengths_end + buckets * int(section["bucket_size"])
    end = rows_first + int(section["room"]) * row.itemsize
    if count > int(section["room"]):
        raise _damaged(path, f"{count:,} Gaussians in a section for {section['room']:,}")
    if end > len(data):
        raise truncated(path, ".ksplat", len(data), end)
    rows = data[rows_first : rows_first + count * row.itemsize].view(row)
    means = rows["means"].astype(np.float64)
    if mode > 0:
        if buckets and int(section["bucket_size"]) != BUCKET_BYTES:
            raise _damaged(path, f"buckets of {section['bucket_size']} bytes")
        centers = data[lengths_end:rows_first].view("<f4").reshape(-1, 3)
        zero = int(section["range"]) or DEFAULT_RANGE
        bucket = _bucket_of_each(section, data[first:lengths_end].view("<u4").astype(np.int64))
        if count and int(bucket.max()) >= len(centers):
            raise _damaged(path, f"{len(centers):,} buckets for {int(bucket.max()) + 1:,}")
        means = (means - zero) * (float(section["block"]) / 2 / zero) + centers[bucket]
    rest = rows["rest"].astype(np.float64)
    if mode == 2:
        low, high = float(header["lowest"]) or -DEFAULT_HARMONICS, float(header["highest"]) or DEFAULT_HARMONICS
        rest = low + rest / 255 * (high - low)
    return (means, rows["scales"].astype(np.float64), rows["quats"], rows["colors"], _by_base(rest, degree)), end


def _bucket_of_each(section: np.void, lengths: Int64[np.ndarray, " partial"]) -> Int64[np.ndarray, " count"]:
    """Returns the bucket of each Gaussian: first come the full ones, then those of the given lengths."""
    index = np.arange(int(section["count"]))
    full, capacity = int(section["full"]), int(section["capacity"])
    ends = np.concatenate([np.full(1, full * capacity), full * capacity + np.cumsum(lengths)])
    in_partial = full + np.searchsorted(ends[1:], index, side="right")
    return np.where(index < full * capacity, index // max(capacity, 1), in_partial)


def _by_base(rest: Float[np.ndarray, "count numbers"], degree: int) -> Float[np.ndarray, "count bases 3"]:
    """Orders harmonics by base and channel; the file has them by degree, then channel, then base."""
    bands, first = [], 0
    for band in range(1, degree + 1):
        size = 2 * band + 1
        bands.append(rest[:, first : first + 3 * size].reshape(len(rest), 3, size).transpose(0, 2, 1))
        first += 3 * size
    return np.concatenate(bands, axis=1) if bands else np.zeros((len(rest), 0, 3))


def _damaged(path: Path, found: str) -> GenLangSplatError:
    return GenLangSplatError(f"{path} is a damaged .ksplat file: it has {found}. Copy, download or export it again.")
