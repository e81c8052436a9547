"""Temporary files and folders of atomic writes: held by their writer, and removed when a killed writer left them."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

NAME = re.compile(r"\.(?P<stem>.*)-[0-9a-f]{8}-unfinished(?P<suffix>\.[^.]*)?")
"""Names of temporary files and folders."""

AT_WORKING_FOLDER, EXCHANGE = -100, 2
"""Constants of Linux' `renameat2`: relative paths start at the working folder, and the names are exchanged."""

_CLEANED: set[str] = set()
"""Folders in which this process has removed what killed writers left."""


def unfinished_path(path: Path, within: Path | None = None) -> Path:
    """Returns a new name for what becomes `path`, hidden in the same folder or in `within`."""
    # The suffix stays at the end, because numpy and Pillow choose the format by it.
    return (within or path.parent) / f".{path.stem}-{uuid.uuid4().hex[:8]}-unfinished{path.suffix}"


@contextmanager
def created(unfinished: Path, as_folder: bool = False) -> Iterator[None]:
    """Creates a file or a folder, and holds a lock on it, which tells other processes that its writer lives.

    Raises:
        OSError: It cannot be created.
    """
    descriptor = _create(unfinished, as_folder)
    try:
        if not (_lock(descriptor) and unfinished.exists()):
            # Another process may have removed it in the moment before the lock.
            with suppress(FileExistsError):
                again = _create(unfinished, as_folder)
                os.close(descriptor)
                descriptor = again
                _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _create(unfinished: Path, as_folder: bool) -> int:
    if as_folder:
        unfinished.mkdir()
        return os.open(unfinished, os.O_RDONLY)
    return os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def remove_abandoned(folder: Path) -> None:
    """Removes temporary files and folders in a folder whose writers were killed; does nothing without permission."""
    _CLEANED.add(str(folder))
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if NAME.fullmatch(entry.name)]:
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    if _lock(descriptor):
                        remove(path)
                finally:
                    os.close(descriptor)


def remove_abandoned_once(folder: Path) -> None:
    """Does the same, but only once per process, as a folder may have many files."""
    if str(folder) not in _CLEANED:
        remove_abandoned(folder)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it; nothing happens if it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def store_on_disk(path: Path) -> None:
    """Waits until a file, or all files of a folder, are on the disk, so that a power failure does not empty them.

    Raises:
        OSError: The disk reports an error.
    """
    for file in [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def exchange(new: Path, old: Path) -> None:
    """Gives a new folder the name of an old one, which takes the name of the new one.

    On Linux, there is no moment without a folder of that name. Elsewhere there are three renames.

    Raises:
        OSError: They cannot be renamed; both keep their names.
    """
    if exchange_at_once(new, old):
        return
    aside = new.with_name(f"{new.name}-aside")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)


def exchange_at_once(first: Path, second: Path) -> bool:
    """Exchanges two names by one call of Linux; False if the system or the disk cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    names = os.fsencode(first), os.fsencode(second)
    return call is not None and call(AT_WORKING_FOLDER, names[0], AT_WORKING_FOLDER, names[1], EXCHANGE) == 0


def _lock(descriptor: int) -> bool:
    """Locks an open file; False if another process holds it, or if this disk has no locks."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
