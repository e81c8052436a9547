"""Only one process at a time makes a scene in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from genlangsplat_ns.errors import GenLangSplatError

LOCK_FILE = ".lock"
"""File in the folder of a scene that the process holds which works on it."""


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Locks the folder of a scene, and creates it if necessary; the system releases the lock of a killed process.

    A folder in which nothing was written is left as it was.

    Raises:
        GenLangSplatError: Another process has locked it.
    """
    if folder.exists() and not folder.is_dir():
        # What needs a folder refuses it, and says why.
        yield
        return
    created = not folder.exists()
    before = set() if created else {path.name for path in folder.iterdir()}
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise GenLangSplatError(
            f"Another process is working on the scene in {folder}. Wait until it finishes, or name another folder with "
            "--output-dir."
        ) from error
    try:
        yield
    finally:
        unchanged = {path.name for path in folder.iterdir()} - {LOCK_FILE} == before - {LOCK_FILE}
        if unchanged and LOCK_FILE not in before:
            (folder / LOCK_FILE).unlink(missing_ok=True)
        lock.release()
        if created:
            with suppress(OSError):
                folder.rmdir()
