"""Files of Gaussians of all formats: which one a file has, reading it, and writing one by its ending."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io import spz
from genlangsplat_ns.scene_io.compressed_ply import PACKED, read_compressed_ply, write_compressed_ply
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.ksplat import HEADER, is_ksplat, read_ksplat
from genlangsplat_ns.scene_io.ply import (
    CONSTANT,
    check_writable,
    header_comments,
    read_antialiased,
    read_header,
    read_offset,
    read_ply,
    write_ply,
)
from genlangsplat_ns.scene_io.sog import META, is_sog_archive, is_sog_meta, read_sog, write_sog
from genlangsplat_ns.scene_io.spatial_order import spatial_order
from genlangsplat_ns.scene_io.splat import read_splat
from genlangsplat_ns.utils.wrong_files import wrong_content

LOGGER = logging.getLogger(__name__)


class SplatFormat(Enum):
    """A format of files of Gaussians."""

    PLY = "PLY"
    COMPRESSED_PLY = "compressed PLY"
    SPZ = "SPZ"
    SOG = "SOG"
    SPLAT = ".splat"
    KSPLAT = ".ksplat"


ENDINGS = {
    ".compressed.ply": SplatFormat.COMPRESSED_PLY,
    ".ply": SplatFormat.PLY,
    ".spz": SplatFormat.SPZ,
    ".sog": SplatFormat.SOG,
    ".splat": SplatFormat.SPLAT,
    ".ksplat": SplatFormat.KSPLAT,
}
"""Formats by the ending of file names; a longer ending comes before a shorter one."""

WRITTEN = {ending: kind for ending, kind in ENDINGS.items() if kind not in (SplatFormat.SPLAT, SplatFormat.KSPLAT)}
"""Endings of the formats that are written. The others have no harmonics, or have no program of their own any more."""

PLY_FORMATS = (SplatFormat.PLY, SplatFormat.COMPRESSED_PLY)
"""Formats whose header has a place for an offset."""

EXPECTED = "a file of Gaussian splats: PLY, compressed PLY, SPZ, SOG, .splat or .ksplat"


@dataclass(frozen=True)
class SplatFile:
    """What a file of Gaussians contains."""

    format: SplatFormat
    gaussians: GaussianParameters
    """In the coordinates of the file."""
    antialiased: bool = False
    """Whether the file says that they were trained with antialiasing."""
    offset: Float64[Tensor, " 3"] = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    """What to add to the positions in the frame of the data."""


def read_splats(path: Path) -> SplatFile:
    """Reads Gaussians from a file, or from the folder of a SOG scene, by its content.

    Raises:
        GenLangSplatError: The file is of another kind, damaged or truncated, may not be read, or has no Gaussian that
            can be rendered.
    """
    try:
        return _read(path)
    except OSError as error:
        raise GenLangSplatError(
            f"{path} cannot be read: {error.strerror or error}. Give permission, or copy the file to this machine."
        ) from error


def _read(path: Path) -> SplatFile:
    kind = recognize(path)
    if kind is SplatFormat.SPZ:
        return SplatFile(kind, *spz.read_spz(path))
    if kind is SplatFormat.SOG:
        return SplatFile(kind, *read_sog(path))
    if kind in PLY_FORMATS:
        gaussians = read_ply(path) if kind is SplatFormat.PLY else read_compressed_ply(path)
        return SplatFile(kind, gaussians, read_antialiased(path), torch.from_numpy(read_offset(path)))
    return SplatFile(kind, read_splat(path) if kind is SplatFormat.SPLAT else read_ksplat(path))


def recognize(path: Path) -> SplatFormat:
    """Returns the format of a file by its first bytes, or by its name if the format has no magic number.

    A name with the ending of another format is logged.

    Raises:
        GenLangSplatError: The file does not exist, or is no file of Gaussians.
    """
    if path.is_dir() and is_sog_meta(path / META):
        return SplatFormat.SOG
    if not path.is_file():
        raise GenLangSplatError(f"There is no file {path}; expected {EXPECTED}. Correct the path.")
    named = ENDINGS.get(ending_of(path))
    found = SplatFormat.SOG if is_sog_meta(path) else _format_by_content(path, named)
    if found is None:
        what = wrong_content(path) or f"no file of this kind: it starts with {_beginning(path, 8)!r}; use another file"
        raise GenLangSplatError(f"Expected {EXPECTED}, but {path} is {what}. Give such a file.")
    by_name = named if named not in PLY_FORMATS or found not in PLY_FORMATS else found
    if by_name not in (found, None):
        LOGGER.warning("%s is named like %s, but is %s, and is read as that.", path, by_name.value, found.value)
    return found


def format_to_write(path: Path) -> SplatFormat:
    """Returns the format to write by the ending of a file name.

    Raises:
        GenLangSplatError: No written format has this ending.
    """
    kind = WRITTEN.get(ending_of(path))
    if kind is None:
        *others, last = WRITTEN
        raise GenLangSplatError(
            f"Found the output {path}; give a file name that ends in {', '.join(others)} or {last}."
        )
    return kind


def write_splats(
    path: Path,
    gaussians: GaussianParameters,
    extra: Mapping[str, Tensor] | None = None,
    offset: Sequence[float] | None = None,
    antialiased: bool = False,
) -> Tensor:
    """Writes Gaussians in the format that the ending of the file name says.

    Args:
        path: The file; it is written under a temporary name and renamed.
        gaussians: The Gaussians; all formats store their coordinates as they are.
        extra: Further properties by name, for PLY files only.
        offset: What to add to the positions, for PLY files only.
        antialiased: Whether they were trained with antialiasing; all formats store this.

    Returns:
        The index of each Gaussian of the file: SOG and compressed PLY need neighbors together.

    Raises:
        GenLangSplatError: The ending is unknown, the format cannot store what is asked for, or a value is not finite.
    """
    kind = format_to_write(path)
    if extra and kind is not SplatFormat.PLY:
        names = ", ".join(extra)
        raise GenLangSplatError(
            f"{path} would be a {kind.value} file, which has no place for {names}. Give a .ply file."
        )
    if offset is not None and kind not in PLY_FORMATS:
        raise GenLangSplatError(
            f"The positions are far from their origin and need an offset, for which {kind.value} files have no place. "
            "Give a file name that ends in .ply or .compressed.ply, or omit --frame data."
        )
    check_writable(path, gaussians)
    order = np.arange(len(gaussians))
    if kind is SplatFormat.PLY:
        write_ply(path, gaussians, extra, offset, antialiased)
    elif kind is SplatFormat.COMPRESSED_PLY:
        order = write_compressed_ply(path, gaussians, header_comments(offset, antialiased))
    elif kind is SplatFormat.SPZ:
        spz.write_spz(path, gaussians, antialiased)
    else:
        order = spatial_order(gaussians.means.detach().cpu().numpy())
        write_sog(path, gaussians, order, antialiased)
    return torch.from_numpy(order)


def ending_of(path: Path) -> str:
    """Returns the ending of a file name that tells its format, as .compressed.ply; empty if it has none of them."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")


def _format_by_content(path: Path, named: SplatFormat | None) -> SplatFormat | None:
    start = _beginning(path, HEADER.itemsize)
    if start.startswith((b"ply\n", b"ply\r")):
        return _ply_format(path)
    if start.startswith(spz.MAGIC) or (start.startswith(spz.GZIP) and (named is SplatFormat.SPZ or _is_spz(start))):
        return SplatFormat.SPZ
    if start.startswith(b"PK\x03\x04") and (named is SplatFormat.SOG or is_sog_archive(path)):
        return SplatFormat.SOG
    if named in (SplatFormat.KSPLAT, SplatFormat.SPLAT) and is_ksplat(start):
        return SplatFormat.KSPLAT
    # These have no magic number, so their readers check the rest.
    return named if named in (SplatFormat.KSPLAT, SplatFormat.SPLAT) and not wrong_content(path) else None


def _ply_format(path: Path) -> SplatFormat:
    """Tells PLY files apart by their header.

    Raises:
        GenLangSplatError: The file is a mesh or point cloud.
    """
    header = read_header(path)
    elements = {words[1]: words[2] for words in header if words[:1] == ["element"] and len(words) == 3}
    properties = {words[-1] for words in header if words[:1] == ["property"]}
    if "chunk" in elements and properties.issuperset(PACKED):
        return SplatFormat.COMPRESSED_PLY
    if properties.isdisjoint(CONSTANT) and elements.get("face", "0") != "0":
        raise GenLangSplatError(
            f"{path} is a mesh with {elements.get('vertex', '0')} vertices and {elements['face']} faces; expected "
            f"{EXPECTED}. Use the file of splats instead; a mesh can give the seed points of a training (docs/data.md)."
        )
    return SplatFormat.PLY


def _is_spz(start: bytes) -> bool:
    """Whether the first bytes of a gzip archive unpack to the beginning of an SPZ file."""
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(start, len(spz.MAGIC)) == spz.MAGIC
    except zlib.error:
        return False


def _beginning(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)
