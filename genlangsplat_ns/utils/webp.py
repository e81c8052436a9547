"""Reads the size of a WebP picture from its header, which Pillow only tells after it took memory for the picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

HEADER_BYTES = 30
"""Bytes from the start of the file to the end of the longest header."""


def webp_size(file: Path | BytesIO) -> tuple[int, int] | None:
    """Returns the width and height of a WebP picture in pixels, or None for a file of another kind.

    The layouts are those of the WebP container specification: extended (VP8X), lossless (VP8L) and lossy (VP8).
    A file in memory is read from its start and left there.

    Raises:
        ValueError: The header of the WebP file is damaged.
    """
    header = _start(file)
    if header[:4] != b"RIFF" or header[8:12] != b"WEBP":
        return None
    kind = header[12:16]
    if kind == b"VP8X" and len(header) == HEADER_BYTES:
        return _number(header[24:27]) + 1, _number(header[27:30]) + 1
    if kind == b"VP8L" and len(header) >= 25 and header[20] == 0x2F:
        bits = _number(header[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(header) == HEADER_BYTES and header[23:26] == b"\x9d\x01\x2a":
        return _number(header[26:28]) & 0x3FFF, _number(header[28:30]) & 0x3FFF
    raise ValueError("its WebP header is damaged")


def _start(file: Path | BytesIO) -> bytes:
    if isinstance(file, BytesIO):
        return bytes(file.getbuffer()[:HEADER_BYTES])
    with file.open("rb") as opened:
        return opened.read(HEADER_BYTES)


def _number(content: bytes) -> int:
    return int.from_bytes(content, "little")
