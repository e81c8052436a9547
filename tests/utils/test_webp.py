"""The size of a WebP picture is read from its header alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genlangsplat_ns.utils.webp import HEADER_BYTES, webp_size

SIDES = st.integers(1, 200)

LAYOUTS: dict[str, dict[str, Any]] = {
    "lossy": {"mode": "RGB"},
    "lossless": {"mode": "RGB", "lossless": True},
    "lossless with alpha": {"mode": "RGBA", "lossless": True, "exact": True},
    "lossy with alpha": {"mode": "RGBA"},
    "with EXIF data": {"mode": "RGB", "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0"},
}


def webp(width: int, height: int, mode: str = "RGB", **options: Any) -> bytes:
    """A WebP file of noise, of which not even the alpha is plain."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, "WEBP", method=0, **options)
    return content.getvalue()


@pytest.mark.parametrize("layout", LAYOUTS)
@given(width=SIDES, height=SIDES)
def test_the_header_has_the_size_of_the_picture(layout: str, width: int, height: int) -> None:
    content = io.BytesIO(webp(width, height, **LAYOUTS[layout]))
    assert webp_size(content) == (width, height)
    assert Image.open(content).size == (width, height), "reading the header moved the file"


@pytest.mark.parametrize("size", [(16_383, 1), (1, 16_383)])
def test_the_largest_sides_are_read(size: tuple[int, int]) -> None:
    assert webp_size(io.BytesIO(webp(*size))) == size
    assert webp_size(io.BytesIO(webp(*size, mode="RGBA", lossless=True))) == size


def test_a_file_on_disk_is_read_like_one_in_memory(tmp_path: Path) -> None:
    (tmp_path / "view.webp").write_bytes(webp(31, 17))
    assert webp_size(tmp_path / "view.webp") == (31, 17)


def test_other_files_have_no_size(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "view.png")
    assert webp_size(tmp_path / "view.png") is None
    assert webp_size(io.BytesIO(b"")) is None
    assert webp_size(io.BytesIO(b"RIFF\0\0\0\0WAVEfmt ")) is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_cut_header_is_refused(layout: str) -> None:
    content = webp(9, 8, **LAYOUTS[layout])
    needed = 25 if content[12:16] == b"VP8L" else HEADER_BYTES
    for length in range(12, needed):
        with pytest.raises(ValueError, match="its WebP header is damaged"):
            webp_size(io.BytesIO(content[:length]))
    assert webp_size(io.BytesIO(content[:needed])) == (9, 8)


def test_a_changed_signature_is_refused() -> None:
    for content, place in ((webp(9, 8), 23), (webp(9, 8, lossless=True), 20), (webp(9, 8), 12)):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        with pytest.raises(ValueError, match="its WebP header is damaged"):
            webp_size(io.BytesIO(changed))
