"""Gaussians in Niantic's SPZ files: versions 2 to 4 are read, version 3 is written."""

from __future__ import annotations

import gzip
import importlib
import logging
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float, UInt8

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.packing import (
    as_arrays,
    check_unpacked_size,
    from_arrays,
    from_largest_and_others,
    largest_and_others,
    logits_of,
    opacities_of,
    to_bytes,
    truncated,
)
from genlangsplat_ns.utils.files import atomic_path

LOGGER = logging.getLogger(__name__)

MAGIC = b"NGSP"
GZIP = b"\x1f\x8b"

HEADER = struct.Struct("<4sIIBBBB")
"""Magic, version, number of Gaussians, degree, fractional bits, flags, and the number of streams from version 4 on."""

LONG_HEADER = 32
"""Size of the header from version 4 on, which is not compressed; it has the place of the table of streams at 16."""

ANTIALIASED, EXTENSIONS = 1, 2
"""Flags."""

WRITTEN_VERSION = 3
"""All current programs read it, and it needs no further package."""

MAX_DEGREE = 3

COLOR_FACTOR = 0.15 * 255
LOG_SCALE_FACTOR, LOG_SCALE_OFFSET = 16.0, 10.0
HARMONICS_FACTOR = 128.0

POSITION_LIMIT = 1 << 23
"""Positions are integers of 24 bits with a sign."""

MAX_FRACTIONAL_BITS = 23


@dataclass(frozen=True)
class _Header:
    version: int
    count: int
    degree: int
    fractional_bits: int
    flags: int
    streams: int

    @property
    def sizes(self) -> list[int]:
        """The bytes of positions, opacities, colors, sizes, rotations and harmonics."""
        bases = (self.degree + 1) ** 2 - 1
        rotation = 4 if self.version >= 3 else 3
        return [self.count * each for each in (9, 1, 3, 3, rotation, 3 * bases)]


def read_spz(path: Path) -> tuple[GaussianParameters, bool]:
    """Reads the Gaussians of an SPZ file, with the numbers of the file.

    By the documentation of the format, y is up and z backward, where PLY files have y down and z forward. Niantic's own
    converter, splat-transform from version 3 on and others store the numbers of the PLY file instead. `half_turn`
    converts between both.

    Returns:
        The Gaussians, and whether they were trained with antialiasing.

    Raises:
        GenLangSplatError: The file is damaged, truncated, of another version, or unpacks to far more than scenes do; or
            version 4 needs a package that is not installed.
    """
    data = path.read_bytes()
    if data.startswith(GZIP):
        start = _gunzip(path, data, HEADER.size)
        header = _parse_header(path, start)
        if header.version not in (2, 3):
            raise _wrong_version(path, header.version)
        expected = HEADER.size + sum(header.sizes)
        check_unpacked_size(path, expected, len(data))
        payload = _gunzip(path, data, expected, complete=not header.flags & EXTENSIONS)[HEADER.size :]
    else:
        header = _parse_header(path, data)
        if header.version != 4:
            raise _wrong_version(path, header.version)
        check_unpacked_size(path, sum(header.sizes), len(data))
        payload = _unpack_streams(path, data, header)
    return _decode(path, header, payload), bool(header.flags & ANTIALIASED)


def write_spz(path: Path, gaussians: GaussianParameters, antialiased: bool = False) -> None:
    """Writes Gaussians as an SPZ file of version 3, in the order and with the coordinates they have.

    Raises:
        GenLangSplatError: The positions are too far from the origin.
    """
    data = pack_spz(gaussians, antialiased)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def pack_spz(
    gaussians: GaussianParameters,
    antialiased: bool = False,
    most_bits: int = MAX_FRACTIONAL_BITS,
    effort: int = 6,
) -> bytes:
    """Returns the bytes of an SPZ file of version 3, in the order and with the coordinates of the Gaussians.

    Args:
        gaussians: The Gaussians; each value must be finite.
        antialiased: Whether they were trained with antialiasing.
        most_bits: Positions get as many fractional bits as fit, but at most this number; Niantic's library writes 12.
            Harmonics get all 8 bits, where that library writes 5 or 4.
        effort: Of the compression, 1 (fast) to 9 (small).

    Raises:
        GenLangSplatError: The positions are too far from the origin.
    """
    values = {name: array.astype(np.float64) for name, array in as_arrays(gaussians).items()}
    farthest = float(np.abs(values["means"]).max())
    bits = most_bits
    if farthest > 0:
        bits = min(bits, math.floor(math.log2((POSITION_LIMIT - 1) / farthest)))
    if bits < 1:
        raise GenLangSplatError(
            f"The positions are up to {farthest:.6g} from the origin; SPZ files hold at most {POSITION_LIMIT // 2:,}. "
            "Export to a .ply file."
        )
    integers = np.round(values["means"] * 2.0**bits).astype("<i4")
    largest, others = largest_and_others(np.roll(values["quats"], -1, axis=1))
    levels = np.minimum(np.round(np.abs(others) * math.sqrt(2) * 511), 511).astype(np.uint32)
    packed = largest.astype(np.uint32)
    for column in range(3):
        packed = (packed << 10) | ((others[:, column] < 0).astype(np.uint32) << 9) | levels[:, column]
    header = HEADER.pack(
        *(MAGIC, WRITTEN_VERSION, len(gaussians), gaussians.sh_degree, bits),
        *(ANTIALIASED if antialiased else 0, 0),
    )
    parts = [
        integers.reshape(-1, 1).view(np.uint8)[:, :3],
        to_bytes(opacities_of(values["opacities"]) * 255),
        to_bytes(values["features_dc"] * COLOR_FACTOR + 127.5),
        to_bytes((values["scales"] + LOG_SCALE_OFFSET) * LOG_SCALE_FACTOR),
        packed.astype("<u4"),
        to_bytes(values["features_rest"] * HARMONICS_FACTOR + 128),
    ]
    return gzip.compress(header + b"".join(part.tobytes() for part in parts), effort, mtime=0)


def _decode(path: Path, header: _Header, payload: bytes) -> GaussianParameters:
    """Decodes the sections that follow one another in the payload."""
    count = header.count
    sections, first = [], 0
    for size in header.sizes:
        sections.append(np.frombuffer(payload, np.uint8, size, first).reshape(count, -1))
        first += size
    positions, opacities, colors, scales, rotations, rest = sections
    integers = np.zeros((count * 3, 4), np.uint8)
    # In the high bytes, so that the sign comes along.
    integers[:, 1:] = positions.reshape(-1, 3)
    means = (integers.view("<i4") >> 8).reshape(count, 3) * 2.0**-header.fractional_bits
    harmonics = (rest.astype(np.float32) - 128) / np.float32(HARMONICS_FACTOR)
    if header.degree > MAX_DEGREE:
        LOGGER.warning(
            "%s: the harmonics of degree %d are left out; the highest is %d.", path, header.degree, MAX_DEGREE
        )
    return from_arrays(
        path,
        means,
        scales / LOG_SCALE_FACTOR - LOG_SCALE_OFFSET,
        _quaternions(rotations),
        (colors - 127.5) / COLOR_FACTOR,
        harmonics.reshape(count, -1, 3)[:, : (MAX_DEGREE + 1) ** 2 - 1],
        logits_of(opacities[:, 0] / 255),
    )


def _quaternions(stored: UInt8[np.ndarray, "count size"]) -> Float[np.ndarray, "count 4"]:
    """Decodes rotations of 3 bytes, x, y and z, or of 4 bytes, all but the largest component of x, y, z, w."""
    if stored.shape[1] == 3:
        vector = stored / 127.5 - 1
        return np.column_stack([np.sqrt(np.maximum(0, 1 - np.square(vector).sum(axis=1))), vector])
    packed = np.ascontiguousarray(stored).view("<u4")[:, 0]
    fields = np.stack([packed >> 20, packed >> 10, packed], axis=1) & 1023
    others = (fields & 511) / 511 / math.sqrt(2) * np.where(fields & 512, -1, 1)
    return np.roll(from_largest_and_others((packed >> 30).astype(np.int64), others), 1, axis=1)


def _parse_header(path: Path, data: bytes) -> _Header:
    if len(data) < HEADER.size:
        raise truncated(path, "SPZ", len(data), HEADER.size)
    magic, *numbers = HEADER.unpack_from(data)
    header = _Header(*numbers)
    if magic != MAGIC:
        raise GenLangSplatError(f"{path} is a gzip archive of something else than an SPZ file. Unpack it first.")
    if header.count == 0:
        raise GenLangSplatError(f"{path} contains no Gaussians. Export the scene again, or use another file.")
    if header.degree > MAX_DEGREE + 1 or not 0 <= header.fractional_bits <= 24:
        raise _damaged(
            path,
            f"says that it has harmonics of degree {header.degree} and {header.fractional_bits} fractional bits; "
            "expected at most 4 and 24",
        )
    return header


def _damaged(path: Path, found: str) -> GenLangSplatError:
    return GenLangSplatError(f"{path} {found}. It is damaged; copy, download or export it again.")


def _wrong_version(path: Path, version: int) -> GenLangSplatError:
    return GenLangSplatError(
        f"{path} is an SPZ file of version {version}; expected version 2 or 3, compressed by gzip as a whole, or "
        "version 4, which is not. Convert it to a .ply file with the program that wrote it."
    )


def _gunzip(path: Path, data: bytes, size: int, complete: bool = False) -> bytes:
    """Unpacks the first `size` bytes; `complete` says that nothing may follow, so that the checksum is compared."""
    unpacker, more = zlib.decompressobj(16 + zlib.MAX_WBITS), b""
    try:
        unpacked = unpacker.decompress(data, size)
        if complete and not unpacker.eof:
            more = unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error as error:
        raise _damaged(path, f"cannot be unpacked as an SPZ file ({error})") from error
    if len(unpacked) < size:
        raise truncated(path, "SPZ", len(unpacked), size)
    if complete and not unpacker.eof:
        what = "more than" if more else "no checksum after"
        raise _damaged(path, f"is an SPZ file with {what} the {size:,} bytes that its header announces")
    return unpacked


def _unpack_streams(path: Path, data: bytes, header: _Header) -> bytes:
    """Unpacks the streams of version 4, one a section, by the table of their sizes."""
    zstandard = _zstandard(path)
    sizes = [size for size in header.sizes if size]
    table = struct.unpack_from("<I", data, 16)[0] if len(data) >= LONG_HEADER else 0
    first = table + 16 * header.streams
    if header.streams != len(sizes) or table < LONG_HEADER:
        expected = f"expected {len(sizes)} for harmonics of degree {header.degree}, from byte {LONG_HEADER} on"
        raise _damaged(path, f"says that it has {header.streams} streams, listed from byte {table} on; {expected}")
    if first > len(data):
        raise truncated(path, "SPZ", len(data), first)
    parts = []
    for number, size in enumerate(sizes):
        stored, unpacked = struct.unpack_from("<QQ", data, table + 16 * number)
        if unpacked != size:
            raise _damaged(path, f"says that a stream of it unpacks to {unpacked:,} bytes; expected {size:,}")
        if first + stored > len(data):
            raise truncated(path, "SPZ", len(data), first + stored)
        try:
            # A reader takes no more memory than it is asked for, whatever the stream says of its size.
            part = zstandard.ZstdDecompressor().stream_reader(data[first : first + stored]).read(size)
        except zstandard.ZstdError as error:
            raise _damaged(path, f"cannot be unpacked as an SPZ file ({error})") from error
        if len(part) < size:
            raise truncated(path, "SPZ", len(part), size)
        parts.append(part)
        first += stored
    return b"".join(parts)


def _zstandard(path: Path) -> ModuleType:
    try:
        return importlib.import_module("zstandard")
    except ImportError as error:
        raise GenLangSplatError(
            f"{path} is an SPZ file of version 4, which needs the package zstandard ({error}). Install it: "
            'pip install "genlangsplat-ns[formats]"'
        ) from error
