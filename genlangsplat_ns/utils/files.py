"""Writing files so that no half-written one is ever seen under its final name."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import struct
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from genlangsplat_ns.errors import GenLangSplatError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    StopIteration,
    struct.error,
    pickle.UnpicklingError,
    SafetensorError,
)
"""What the readers of weights raise over files that are damaged, of another model, or no weights: whatever the first
bytes lead them to."""


@contextmanager
def atomic_path(path: Path, within: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path; it takes the final name on success and is removed on any error.

    Args:
        path: The final file name. Its folder is made when it does not exist.
        within: The folder of the temporary file, on the same disk; None for that of the final one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays at the end because numpy and Pillow choose the format by it.
    temporary = (within or path.parent) / f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new temporary folder beside `path`; it takes the final name on success and is removed on any error.

    Args:
        path: The final name.
        overwrite: Whether to replace a folder of that name. Without it, none may exist.
    """
    temporary, replaced = (path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}") for _ in range(2))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if overwrite and path.exists():
            path.rename(replaced)
        temporary.rename(path)
    finally:
        for folder in (temporary, replaced):
            shutil.rmtree(folder, ignore_errors=True)


def safe_name(text: str, keep_case: bool = False) -> str:
    """Turns any text into a part of a file name.

    Args:
        text: Any text.
        keep_case: Keeps letters as they are, dots and the full length, and replaces everything else but ASCII letters
            and digits by underscores. Otherwise the result is lower case, with hyphens, and has at most 40 characters.
    """
    if keep_case:
        return re.sub(r"[^A-Za-z0-9._]+", "_", text).lstrip(".") or "_"
    return re.sub(r"[^\w]+", "-", text).strip("-").lower()[:40] or "text"


def file_sha256(path: Path) -> str:
    """The hash of a file; of one that has not changed it is taken once per process."""
    status = path.stat()
    return _file_sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _file_sha256(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_new_file(path: Path, overwrite: bool) -> None:
    """Checks before long work that a file can be written at its end; makes its folder.

    Args:
        path: The file.
        overwrite: Whether it may exist.

    Raises:
        GenLangSplatError: It exists and may not, it is a folder, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise GenLangSplatError(f"{path} is a folder. Name a file in it.")
    if path.exists() and not overwrite:
        raise GenLangSplatError(f"{path} exists. Name another file, or add --overwrite to replace it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GenLangSplatError(f"{path} cannot be written: {error.strerror}. Name a file elsewhere.") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise GenLangSplatError(f"{path} cannot be written: no permission for {path.parent}. Name a file elsewhere.")


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Digest of named tensors: of their names, types, shapes and numbers."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        # numpy does not know every type, but bytes.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
