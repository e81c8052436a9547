"""Reads files of `torch.save` of unknown origin: no code of them runs, and they take no more memory than they have."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError

ERRORS_OF_TORCH = (
    *(OSError, EOFError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
    *(StopIteration, ArithmeticError, MemoryError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What `torch.load` and `torch.jit.load` raise for damaged files, because they check little themselves.

Only calls of torch may be in a block that catches these.
"""


ERRORS_OF_ARCHIVES = (OSError, ValueError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)
"""What `zipfile` raises for damaged archives."""

ARCHIVE_END_BYTES = 1 << 17
"""The record at the end of an archive has at most half as many bytes, its comment included."""

ALWAYS_ALLOWED = 1 << 24
"""Bytes that a tensor may have, however few of its numbers are stored."""


class UnusableFileError(GenLangSplatError):
    """A file of `torch.save` is damaged, not such a file, or has more than tensors and plain values."""


def load_torch_file(path: Path, mmap: bool = False, checksums: bool = False) -> Any:
    """Returns the content of a file of `torch.save` on the CPU: tensors and plain values in dictionaries and lists.

    Args:
        path: The file.
        mmap: Map the file into memory instead of reading it; not for files of torch before 1.6.
        checksums: Compare the checksums of the archive, which torch does not.

    Raises:
        UnusableFileError: The file cannot be read, is damaged, or is something else.
    """
    in_archive = _check_archive(path, checksums)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and in_archive)
    except ERRORS_OF_TORCH as error:
        raise unusable(path, _reason(error)) from error
    for tensor in _tensors(content):
        problem = _problem_of(tensor)
        if problem is not None:
            raise unusable(path, problem)
    return content


def unusable(path: Path, reason: str) -> UnusableFileError:
    """Returns the error about a file that cannot be used."""
    return UnusableFileError(
        f"{path} is truncated, damaged or no file of torch that can be read safely ({reason}). Copy or download it "
        "again, or give another file."
    )


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive; one that claims to be in several parts is none.

    Raises:
        OSError: The file cannot be read, which `is_zipfile` would call no archive.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - ARCHIVE_END_BYTES))
        end = file.read()
    try:
        return zipfile.is_zipfile(io.BytesIO(end))
    except zipfile.BadZipFile:
        return False


def _check_archive(path: Path, checksums: bool) -> bool:
    """Checks that an archive unpacks to no more than it has; returns whether the file is one."""
    try:
        if not is_archive(path):
            return False
        with zipfile.ZipFile(path) as archive:
            sizes = [entry.file_size for entry in archive.infolist()]
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            damaged = archive.testzip() if checksums and not packed else None
    except ERRORS_OF_ARCHIVES as error:
        raise unusable(path, _reason(error)) from error
    if packed:
        raise unusable(path, f"{packed[0]} in it is compressed, which torch.save does not do")
    if sum(sizes) > path.stat().st_size:
        raise unusable(path, f"it has {path.stat().st_size:,} bytes, but its parts have {sum(sizes):,}")
    if damaged is not None:
        raise unusable(path, f"{damaged} does not have the stored checksum")
    return True


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yields all tensors in nested dictionaries and lists."""
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, Mapping | list | tuple | set) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, Mapping) else item)


def _problem_of(tensor: Tensor) -> str | None:
    """Returns what is wrong with a tensor that was read; None if it is one that `torch.save` writes for weights."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return f"it has a tensor of another kind, {tensor.layout} on {tensor.device}"
    # A tensor of many rows may show the same number in all of them, and grow when it is copied.
    if tensor.numel() * tensor.element_size() > max(ALWAYS_ALLOWED, tensor.untyped_storage().nbytes()):
        return f"a tensor of the shape {tuple(tensor.shape)} has fewer numbers stored"
    return None


def _reason(error: Exception) -> str:
    """Returns a short reason; torch's message about pickles recommends unsafe loading."""
    if isinstance(error, pickle.UnpicklingError):
        return "it contains more than weights"
    first = str(error).strip().split("\n")[0][:120]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
