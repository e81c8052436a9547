"""File helpers: atomic writes, file names, checks and hashes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from genlangsplat_ns.errors import GenLangSplatError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic_path(path: Path, within: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path that is renamed to `path` on success and deleted on any error.

    The folder of `path` is created. `within` is a folder for the temporary file on the same disk, instead of that one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays at the end, because numpy and Pillow choose the format by it.
    temporary = (within or path.parent) / f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file with the permissions of other new files.

    safetensors' own `save_file` makes files that only their owner may read, and hides why a file cannot be written.

    Raises:
        OSError: If the file cannot be written.
    """
    from safetensors.torch import save

    path.write_bytes(save(dict(tensors), dict(metadata)))


@contextmanager
def atomic_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new temporary folder beside `path`; it takes the final name on success and is removed on any error.

    A folder of that name may exist only with `overwrite`, which replaces it.
    """
    temporary, replaced = (path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}") for _ in range(2))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if overwrite and path.exists():
            path.rename(replaced)
        try:
            temporary.rename(path)
        except OSError:
            if replaced.exists():
                replaced.rename(path)
            raise
    finally:
        for folder in (temporary, replaced):
            shutil.rmtree(folder, ignore_errors=True)


def safe_name(text: str, keep_case: bool = False) -> str:
    """Turns any text into a part of a file name: lower case, with hyphens, and at most 40 characters.

    `keep_case` keeps ASCII letters, digits, dots and the full length, and replaces everything else by underscores.
    """
    if keep_case:
        return re.sub(r"[^A-Za-z0-9._]+", "_", text).lstrip(".") or "_"
    return re.sub(r"[^\w]+", "-", text).strip("-").lower()[:40] or "text"


def file_sha256(path: Path) -> str:
    """Returns the hash of a file; it is cached until the file changes."""
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
    """Checks before long work that a file can be written, and creates its folder.

    Raises:
        GenLangSplatError: It exists without `overwrite`, it is a folder, or its folder cannot be created or written to.
    """
    if path.is_dir():
        raise GenLangSplatError(f"{path} is a folder. Give a file in it.")
    if path.exists() and not overwrite:
        raise GenLangSplatError(f"{path} exists. Give another file, or add --overwrite to replace it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GenLangSplatError(f"{path} cannot be written: {error.strerror}. Give a file elsewhere.") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise GenLangSplatError(f"{path} cannot be written: no permission for {path.parent}. Give a file elsewhere.")


def check_new_folder(path: Path, overwrite: bool) -> None:
    """Checks before long work that a folder can be written as a whole.

    Raises:
        GenLangSplatError: It exists and may not be replaced, or its parent cannot be made or written to.
    """
    if path.exists() and not overwrite:
        raise GenLangSplatError(f"{path} exists. Name another folder, or add --overwrite to replace all of it.")
    check_new_file(path.parent / ".new", overwrite=True)


def tensors_sha256(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Returns a hash of named tensors (names, types, shapes and values) and of a text stored with them."""
    import torch

    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        # As bytes, because numpy lacks some types of torch.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
