"""File helpers: atomic writes, file names, checks and hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.unfinished import (
    created,
    exchange,
    remove,
    remove_abandoned_once,
    store_on_disk,
    unfinished_path,
)

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic_path(path: Path, within: Path | None = None) -> Iterator[Path]:
    """Yields an empty temporary file that is renamed to `path` on success and deleted on any error.

    The folder of `path` is created. `within` is a folder for the temporary file on the same disk, instead of that one.
    What killed processes left in that folder is removed.

    Raises:
        OSError: The file cannot be written; the error names `path`.
    """
    temporary = unfinished_path(path, within)
    with _naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_once(temporary.parent)
        try:
            with created(temporary):
                yield temporary
                store_on_disk(temporary)
                os.replace(temporary, path)
        finally:
            remove(temporary)


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Lets errors of writing name the file that was asked for, which errors of a full disk do not name at all."""
    try:
        yield
    except OSError as error:
        known = error.filename is not None and not str(error.filename).startswith(str(temporary))
        if known:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file with the permissions of other new files; equal content gives equal bytes.

    safetensors' own `save_file` makes files that only their owner may read, and hides why a file cannot be written.

    Raises:
        OSError: If the file cannot be written.
    """
    from safetensors.torch import save

    content = save(dict(tensors), dict(metadata))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    # safetensors writes the metadata in another order in every process, but equal content must give equal files.
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(content)[start:])


def system_reason(path: Path) -> str | None:
    """Says why the system does not let a file be read, which safetensors hides; None if it does."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


class _ErrorKeeper:
    """A file that keeps the error of a write, which torch replaces by one without a reason."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Writes like the file."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Writes what is buffered."""
        self._file.flush()


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a file of `torch.save`.

    Raises:
        OSError: If the file cannot be written.
    """
    import torch

    with path.open("wb") as file:
        keeper = _ErrorKeeper(file)
        try:
            torch.save(dict(state), cast("IO[bytes]", keeper))
        except RuntimeError as error:
            if keeper.error is None:
                raise
            raise keeper.error from error


@contextmanager
def atomic_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new temporary folder beside `path`; it takes the final name on success and is removed on any error.

    A folder of that name may exist only with `overwrite`, which replaces it. What killed processes left beside it is
    removed.

    Raises:
        OSError: The folder cannot be written; the error names `path`.
    """
    temporary = unfinished_path(path)
    with _naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_once(path.parent)
        try:
            with created(temporary, as_folder=True):
                yield temporary
                store_on_disk(temporary)
                if overwrite and path.exists():
                    exchange(temporary, path)
                else:
                    temporary.rename(path)
        finally:
            # After an exchange, this is the old folder.
            remove(temporary)


def is_file(path: Path) -> bool:
    """Whether a path that a file names is a file; names that no file can have are none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


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
