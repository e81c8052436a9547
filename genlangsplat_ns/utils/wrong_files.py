"""Recognizes files that hold something else than their name says, such as a web page saved as weights."""

from __future__ import annotations

from pathlib import Path

BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file itself; get it with `git lfs pull`"),
    (b"<!doctype html", "a web page, not the file itself; download the file that the page links to"),
    (b"<html", "a web page, not the file itself; download the file that the page links to"),
    (b"<?xml", "an answer of a server in XML, not the file itself; download it again"),
    (b'{"error"', "an error message of a server, not the file itself; download it again"),
    (b"\x1f\x8b", "a gzip archive; unpack it, and give the file in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it, and give the file in it"),
    (b"rar!", "a rar archive; unpack it, and give the file in it"),
)
"""First bytes of such files in lower case, and what they are."""


def wrong_content(path: Path) -> str | None:
    """Returns what an existing file is, with advice, if its first bytes show that it is a stand-in; otherwise None."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "empty; copy or download it again"
    # Web pages may start with a byte order mark and blank lines.
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for beginning, what in BEGINNINGS if start.startswith(beginning)), None)
