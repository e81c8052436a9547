"""Downloads large files: continues after an interruption, checks the hash, and names the file only when it is whole."""

from __future__ import annotations

import os
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from filelock import FileLock

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import file_sha256
from genlangsplat_ns.utils.progress import progress_bar

BLOCK = 1 << 20
"""Bytes that are received at once."""

TIMEOUT = 60
"""Seconds without an answer after which a connection is given up."""

NOTHING_LEFT = 416
"""HTTP status of a request for bytes after the end of a file."""


@contextmanager
def silent_connections_end() -> Iterator[None]:
    """Gives up connections of other libraries in the block that are silent for `TIMEOUT` seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def partial_path(target: Path, sha256: str) -> Path:
    """Returns the file that holds what was received so far; files of other hashes have other names."""
    return target.with_name(f".{target.name}.{sha256[:8]}.part")


def download(url: str, target: Path, sha256: str) -> Path:
    """Downloads a file to `target`, and continues an interrupted download of the same file.

    A second process that wants the same file waits for the first one. An existing file is replaced at the end.

    Args:
        url: An address of HTTP, or `file://` for a file of this machine.
        target: The file; its folder is created.
        sha256: The hash that the file must have.

    Raises:
        GenLangSplatError: The file is not to be had, the connection was cut, the disk is full or not writable, or the
            hash is another one.
    """
    partial = partial_path(target, sha256)
    lock = partial.with_suffix(".lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if not target.is_file() or file_sha256(target) != sha256:
                _receive(url, partial, target)
                _check(url, partial, sha256)
                os.replace(partial, target)
            # Whoever waits for the lock, or makes it anew, finds the whole file.
            with suppress(OSError):
                lock.unlink()
    except OSError as error:
        raise GenLangSplatError(
            f"{target} cannot be written: {error.strerror or error}. What was received so far is kept; make room or "
            "give permission, and run the same command again."
        ) from error
    return target


def _receive(url: str, partial: Path, target: Path) -> None:
    """Appends the bytes that are missing from the partial file."""
    start = partial.stat().st_size if partial.is_file() else 0
    response = _open(url, start, target)
    if response is None:
        return
    with response:
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        free = shutil.disk_usage(partial.parent).free
        if total is not None and total - start > free:
            raise GenLangSplatError(
                f"{partial.parent} has {free / 1e9:.2f} GB of free disk space, but {total - start:,} bytes of {target} "
                "are missing. Make room, and run the same command again."
            )
        with (
            partial.open("ab" if start else "wb") as file,
            progress_bar(f"{target.name}, MB", None if total is None else total // 10**6, start // 10**6) as bar,
        ):
            received = start
            for block in _blocks(url, response):
                file.write(block)
                received += len(block)
                bar.move_to(received // 10**6)
    if total is not None and received < total:
        raise _cut(url, f"{received:,} of {total:,} bytes were received")


def _open(url: str, start: int, target: Path) -> Any:
    """Opens an address, from a byte on if the server can; None if no byte follows."""
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError) and error.code == NOTHING_LEFT and start:
            return None
        raise GenLangSplatError(
            f"{url} could not be downloaded ({error}). Check the network and try again, or get the file by other means "
            f"into {target.parent}."
        ) from error


def _blocks(url: str, response: Any) -> Iterator[bytes]:
    """Yields what a server sends. Errors of the connection are told apart from those of the disk."""
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _cut(url, str(error)) from error


def _cut(url: str, reason: str) -> GenLangSplatError:
    return GenLangSplatError(
        f"The download of {url} was cut ({reason}). Run the same command again: it continues from there."
    )


def _check(url: str, partial: Path, sha256: str) -> None:
    found = file_sha256(partial)
    if found != sha256:
        size = partial.stat().st_size
        partial.unlink()
        raise GenLangSplatError(
            f"{url} ({size:,} bytes) has the sha256 {found[:12]}..., expected {sha256[:12]}...: it is damaged or "
            "another file, and was deleted. Run the same command again, or take the file from elsewhere."
        )
