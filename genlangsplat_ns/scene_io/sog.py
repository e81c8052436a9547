"""Gaussians in PlayCanvas' SOG files, version 2: lossless WebP images and codebooks, in a zip archive or a folder."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.codebooks import number_codebook, vector_codebook
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
)
from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.version import __version__
from genlangsplat_ns.utils.webp import webp_size

META = "meta.json"

VERSION = 2

MAX_META_BYTES = 1 << 20
"""A real one has some 20 kB."""

ARCHIVE_ERRORS = (OSError, RuntimeError, ValueError, zipfile.BadZipFile)
"""Exceptions of zipfile for archives that are damaged, or of a version that it does not know."""

MEMBER_ERRORS = (*ARCHIVE_ERRORS, KeyError, EOFError, zlib.error)
"""Exceptions of zipfile for damaged, absent and encrypted files, and for names that no file can have."""

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""zipfile unpacks the others as a whole, whatever size is asked for."""

MAX_IMAGE_RATIO = 4
"""Images are compressed already, so an archive does not make them much smaller."""

LARGEST_TAG = 252
"""The fourth channel of a rotation is this and the index of its largest component."""

BASES = (0, 3, 8, 15)

PALETTE_COLUMNS = 64
"""Number of palette entries in a row of their image."""

MAX_PALETTE = 1 << 16
"""A label has 16 bits."""


class _Members:
    """The files of a SOG archive or folder, which are read only up to a limit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path if path.is_dir() else path.parent if path.suffix.lower() == ".json" else None
        if self.folder is None:
            try:
                self.archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
            except ARCHIVE_ERRORS as error:
                raise _damaged(path, f"its archive cannot be opened: {error}") from error
        self.stored = path.stat().st_size if self.folder is None else 0

    def read(self, name: Any, limit: int) -> bytes:
        """Returns the content of a file, at most `limit` bytes.

        Raises:
            GenLangSplatError: It is absent, larger, or cannot be unpacked.
        """
        if not isinstance(name, str) or Path(name).name != name:
            raise _damaged(self.path, f"{META} names the file {name!r}, which is not a file name")
        try:
            if self.folder is not None:
                with (self.folder / name).open("rb") as file:
                    # As much memory is taken as is asked for.
                    content = file.read(min(limit, (self.folder / name).stat().st_size) + 1)
                self.stored += len(content)
            else:
                if self.archive.getinfo(name).compress_type not in COMPRESSIONS:
                    raise _damaged(self.path, f"{name} is compressed by other means than deflate")
                with self.archive.open(name) as member:
                    content = member.read(limit + 1)
        except MEMBER_ERRORS as error:
            raise _damaged(self.path, f"{name} cannot be read: {error}") from error
        if len(content) > limit:
            raise _damaged(self.path, f"{name} is larger than {limit:,} bytes")
        return content


def is_sog_archive(path: Path) -> bool:
    """Whether a zip archive has the table of contents of a SOG file; a damaged archive has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return META in archive.namelist()
    except ARCHIVE_ERRORS:
        return False


def is_sog_meta(path: Path) -> bool:
    """Whether a file is the meta.json of a SOG folder."""
    if path.name != META or not path.is_file():
        return False
    with path.open("rb") as file:
        return b'"means"' in file.read(MAX_META_BYTES)


def read_sog(path: Path) -> tuple[GaussianParameters, bool]:
    """Reads the Gaussians of a SOG archive, of a folder with its files, or of the meta.json in it.

    Returns:
        The Gaussians, and whether they were trained with antialiasing.

    Raises:
        GenLangSplatError: A part is damaged, absent, of another version, or unpacks to far more than scenes do.
    """
    members = _Members(path)
    meta = _parse_meta(path, members.read(META, MAX_META_BYTES))
    count = meta["count"]
    low, high = (_image(members, name, count) for name in _files(path, meta, "means", 2))
    lowest, highest = (_numbers(path, meta["means"], "means", end, 3)[:3] for end in ("mins", "maxs"))
    levels = low[:count, :3] + 256.0 * high[:count, :3]
    logarithms = lowest + levels / 65535 * (highest - lowest)
    with np.errstate(over="ignore"):
        means = np.sign(logarithms) * np.expm1(np.abs(logarithms))
    (quats_file,), (scales_file,), (colors_file,) = (_files(path, meta, name, 1) for name in ("quats", "scales", "sh0"))
    quats = _rotations(_image(members, quats_file, count)[:count])
    scales = _looked_up(path, meta, "scales", _image(members, scales_file, count)[:count, :3])
    colors = _image(members, colors_file, count)[:count]
    constant = _looked_up(path, meta, "sh0", colors[:, :3])
    rest = _read_harmonics(members, meta, count) if meta.get("shN") else np.zeros((count, 0, 3))
    antialiased = meta.get("model") == "antialiased" or meta.get("antialias") is True
    return from_arrays(path, means, scales, quats, constant, rest, logits_of(colors[:, 3] / 255)), antialiased


def write_sog(
    path: Path, gaussians: GaussianParameters, order: Int64[np.ndarray, " count"], antialiased: bool = False
) -> None:
    """Writes Gaussians as a SOG archive in this order; neighbors should follow one another.

    Up to 65,536 Gaussians have their own harmonics; more of them share that many.
    """
    values = {name: array[order].astype(np.float64) for name, array in as_arrays(gaussians).items()}
    count = len(order)
    logarithms = np.sign(values["means"]) * np.log1p(np.abs(values["means"]))
    lowest, highest = logarithms.min(axis=0), logarithms.max(axis=0)
    width = np.where(highest > lowest, highest - lowest, 1.0)
    levels = np.round((logarithms - lowest) / width * 65535).astype(np.int64)
    largest, others = largest_and_others(values["quats"])
    scale_book, scales = number_codebook(values["scales"])
    color_book, colors = number_codebook(values["features_dc"])
    opacities = to_bytes(opacities_of(values["opacities"]) * 255)
    quats = [to_bytes((others / math.sqrt(2) + 0.5) * 255), LARGEST_TAG + largest]
    images = {
        "means_l.webp": [levels & 255],
        "means_u.webp": [levels >> 8],
        "quats.webp": quats,
        "scales.webp": [scales],
        "sh0.webp": [colors, opacities],
    }
    meta: dict[str, Any] = {
        "version": VERSION,
        "asset": {"generator": f"genlangsplat-ns {__version__}"},
        "count": count,
        "antialias": antialiased,
        "means": {"mins": lowest.tolist(), "maxs": highest.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scale_book.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": color_book.tolist(), "files": ["sh0.webp"]},
    }
    if antialiased:
        meta["model"] = "antialiased"
    columns = 4 * math.ceil(math.sqrt(count) / 4)
    encoded = {name: _webp(np.column_stack(parts), columns) for name, parts in images.items()}
    if values["features_rest"].shape[1]:
        meta["shN"], harmonics = _write_harmonics(values["features_rest"], columns)
        encoded |= harmonics
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {META: json.dumps(meta).encode(), **encoded}.items():
            # The time of today would make every file different.
            archive.writestr(zipfile.ZipInfo(name), content)


def _write_harmonics(rest: Float[np.ndarray, "count bases 3"], columns: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Returns the entry of the harmonics in meta.json, and the images of the palette and of the labels."""
    count, bases, _ = rest.shape
    palette, labels = vector_codebook(rest.reshape(count, -1).astype(np.float32), MAX_PALETTE)
    book, indices = number_codebook(palette)
    files = ["shN_centroids.webp", "shN_labels.webp"]
    bands = math.isqrt(bases + 1) - 1
    entry = {"count": len(palette), "bands": bands, "codebook": book.tolist(), "files": files}
    pixels = indices.reshape(len(palette) * bases, 3)
    labels = np.column_stack([labels & 255, labels >> 8, np.zeros_like(labels)])
    return entry, {files[0]: _webp(pixels, PALETTE_COLUMNS * bases), files[1]: _webp(labels, columns)}


def _webp(pixels: np.ndarray, columns: int) -> bytes:
    """Encodes pixels row by row, with an opaque fourth channel if they have three, as a lossless WebP image."""
    rows = -(-len(pixels) // columns)
    image = np.zeros((rows * columns, 4), dtype=np.uint8)
    image[:, 3] = 255
    image[: len(pixels), : pixels.shape[1]] = pixels
    buffer = io.BytesIO()
    # Without `exact`, transparent pixels lose their other channels.
    Image.fromarray(image.reshape(rows, columns, 4), "RGBA").save(buffer, "WEBP", lossless=True, exact=True, method=3)
    return buffer.getvalue()


def _image(members: _Members, name: Any, count: int, columns: int | None = None) -> UInt8[np.ndarray, "pixels 4"]:
    """Decodes an image of at least `count` pixels; the size is checked before."""
    limit = max(MAX_META_BYTES, MAX_IMAGE_RATIO * members.stored if members.folder is None else 8 * count)
    content = members.read(name, limit)
    buffer = io.BytesIO(content)
    try:
        size = webp_size(buffer)
        if size is None:
            raise ValueError("it is not a WebP image")
        # Pillow takes memory for the image when it opens it. The rest of the last rows is empty.
        check_unpacked_size(members.path, 4 * math.prod(size), max(members.stored, len(content)))
        with Image.open(buffer, formats=("WEBP",)) as image:
            width, height = image.size
            if width * height < count or (columns is not None and width != columns):
                expected = f"{count:,} pixels" if columns is None else f"{columns} columns"
                raise _damaged(members.path, f"{name} has {width} x {height} pixels; expected {expected}")
            return np.asarray(image.convert("RGBA")).reshape(-1, 4)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _damaged(members.path, f"{name} cannot be decoded: {error}") from error


def _rotations(pixels: UInt8[np.ndarray, "count 4"]) -> Float[np.ndarray, "count 4"]:
    others = (pixels[:, :3] / 255 - 0.5) * math.sqrt(2)
    tags = pixels[:, 3].astype(np.int64) - LARGEST_TAG
    quats = from_largest_and_others(np.maximum(tags, 0), others)
    # Programs write other tags where there is no rotation.
    quats[tags < 0] = (1.0, 0.0, 0.0, 0.0)
    return quats


def _read_harmonics(members: _Members, meta: dict[str, Any], count: int) -> Float[np.ndarray, "count bases 3"]:
    entry = meta["shN"]
    bands = entry.get("bands") if isinstance(entry, dict) else None
    if not isinstance(bands, int) or not 1 <= bands < len(BASES):
        raise _damaged(members.path, f"{META} has harmonics of degree {bands}; expected 1, 2 or 3")
    bases = BASES[bands]
    palette_file, labels_file = _files(members.path, meta, "shN", 2)
    labels = _image(members, labels_file, count)[:count].astype(np.int64)
    labels = labels[:, 0] + 256 * labels[:, 1]
    needed = bases * (int(labels.max(initial=0)) + 1)
    pixels = _image(members, palette_file, needed, PALETTE_COLUMNS * bases)
    colors = _looked_up(members.path, meta, "shN", pixels[:needed, :3]).astype(np.float32)
    return colors.reshape(-1, bases, 3)[labels]


def _parse_meta(path: Path, content: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{META} is no JSON: {error}") from error
    if not isinstance(meta, dict) or meta.get("version") != VERSION:
        version = meta.get("version", 1) if isinstance(meta, dict) else None
        raise GenLangSplatError(
            f"{path} is a SOG file of version {version}; expected version {VERSION}. Open it in SuperSplat or "
            "splat-transform, and save it again."
        )
    count = meta.get("count")
    if not isinstance(count, int) or count < 1:
        raise _damaged(path, f"{META} has {count!r} Gaussians")
    return meta


def _files(path: Path, meta: dict[str, Any], section: str, number: int) -> list[Any]:
    entry = meta.get(section)
    files = entry.get("files") if isinstance(entry, dict) else None
    if not isinstance(files, list) or len(files) < number:
        raise _damaged(path, f"{META} does not name the images of {section}")
    return files[:number]


def _numbers(path: Path, entry: dict[str, Any], section: str, name: str, least: int) -> Float[np.ndarray, " numbers"]:
    try:
        numbers = np.array(entry.get(name), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.ndim != 1 or len(numbers) < least:
        raise _damaged(path, f"{META} lacks the numbers {section}.{name}")
    return numbers


def _looked_up(
    path: Path, meta: dict[str, Any], section: str, indices: UInt8[np.ndarray, "count 3"]
) -> Float[np.ndarray, "count 3"]:
    """Replaces indices by the numbers of the codebook of a section."""
    return _numbers(path, meta[section], section, "codebook", int(indices.max(initial=0)) + 1)[indices]


def _damaged(path: Path, found: str) -> GenLangSplatError:
    return GenLangSplatError(
        f"{path} cannot be read as a SOG file: {found}. It is damaged or incomplete; copy, download or export it again."
    )
