"""Small valid pictures and videos, from which fuzzing starts."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

from PIL import Image

from tests.robustness.seed import Seed


def picture_bytes(form: str, mode: str = "RGB", size: tuple[int, int] = (16, 12), **options: Any) -> bytes:
    """A small picture with a gradient."""
    buffer = io.BytesIO()
    gradient = Image.linear_gradient("L").resize(size).convert(mode)
    gradient.save(buffer, form, **options)
    return buffer.getvalue()


def pictures(folder: Path) -> list[Seed]:
    """Pictures of all formats, with EXIF data, transparency, palettes and 16 bits."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Maker", "Model"
    exif.get_ifd(0x8769).update({0x920A: 4.2, 0xA405: 28, 0xA002: 16})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 1.0), 3: "E", 4: (13.0, 1.0, 0.5)})
    files = {
        "a.jpg": picture_bytes("JPEG", exif=exif.tobytes()),
        "a.png": picture_bytes("PNG", "RGBA"),
        "palette.png": picture_bytes("PNG", "P", transparency=3),
        "sixteen.png": picture_bytes("PNG", "I;16"),
        "a.webp": picture_bytes("WEBP"),
        "extended.webp": picture_bytes("WEBP", exif=exif.tobytes()),
        "a.tif": picture_bytes("TIFF", compression="tiff_lzw"),
        "plain.tif": picture_bytes("TIFF"),
        "a.bmp": picture_bytes("BMP"),
    }
    return [Seed(name, content) for name, content in files.items()]


def videos(folder: Path) -> list[Seed]:
    """Videos of five frames, which ffmpeg makes without the time or its version."""
    source = ("-f", "lavfi", "-i", "testsrc=size=32x24:rate=5:duration=1", "-bitexact", "-flags", "+bitexact")
    seeds = []
    for name, codec in (("a.mp4", "mpeg4"), ("a.avi", "mjpeg"), ("a.mkv", "ffv1")):
        command = ["ffmpeg", "-nostdin", "-v", "error", *source, "-c:v", codec, str(folder / name)]
        subprocess.run(command, check=True)
        seeds.append(Seed(name, (folder / name).read_bytes()))
    return seeds
