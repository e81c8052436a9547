"""Writes small `.sens` recordings, valid or damaged, field by field."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

COLOR_CODES = {"raw": 0, "png": 1, "jpeg": 2}
SENSOR = "StructureSensor"


def smooth_picture(seed: int, width: int = 24, height: int = 16) -> np.ndarray:
    """An image that JPEG compresses with little loss, different for each seed."""
    columns, rows = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    planes = (columns, rows, np.full_like(rows, (seed * 0.37) % 1))
    return (np.stack(planes, axis=-1) * 255).round().astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    if kind == "raw":
        return pixels.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 95, "subsampling": 0} if kind == "jpeg" else {}))
    return buffer.getvalue()


@dataclass
class SensWriter:
    """A recording whose fields may be changed before it is written.

    Attributes:
        frames: Color images, or bytes to write instead.
        kind: Color compression.
        poses: Camera-to-world matrices of the first frames; later frames are shifted by their number.
        lengths: Wrong color lengths by frame.
        claimed_frames: A wrong number of frames, or None.
    """

    frames: Sequence[np.ndarray | bytes]
    kind: str = "jpeg"
    poses: Sequence[np.ndarray] = ()
    lengths: dict[int, int] = field(default_factory=dict)
    depth_lengths: dict[int, int] = field(default_factory=dict)
    claimed_frames: int | None = None
    version: int = 4
    color_code: int | None = None
    depth_code: int = 1
    color_size: tuple[int, int] = (24, 16)
    name_length: int | None = None

    def header(self) -> bytes:
        name = SENSOR.encode()
        matrices = np.stack([np.full((4, 4), number) + np.arange(16).reshape(4, 4) / 16 for number in range(4)])
        return b"".join(
            (
                struct.pack("<I", self.version),
                struct.pack("<Q", len(name) if self.name_length is None else self.name_length),
                name,
                matrices.astype("<f4").tobytes(),
                struct.pack("<i", COLOR_CODES[self.kind] if self.color_code is None else self.color_code),
                struct.pack("<i", self.depth_code),
                struct.pack("<IIII", *self.color_size, 8, 6),
                struct.pack("<f", 1000.0),
                struct.pack("<Q", len(self.frames) if self.claimed_frames is None else self.claimed_frames),
            )
        )

    def frame(self, number: int) -> bytes:
        pixels = self.frames[number]
        color = pixels if isinstance(pixels, bytes) else encoded(pixels, self.kind)
        depth = zlib.compress(np.full((6, 8), number, dtype="<u2").tobytes())
        return b"".join(
            (
                self.pose(number).astype("<f4").tobytes(),
                struct.pack("<QQ", 1000 * number, 1000 * number + 7),
                struct.pack("<Q", self.lengths.get(number, len(color))),
                struct.pack("<Q", self.depth_lengths.get(number, len(depth))),
                color,
                depth,
            )
        )

    def pose(self, number: int) -> np.ndarray:
        if number < len(self.poses):
            return self.poses[number]
        pose = np.eye(4)
        pose[0, 3] = number
        return pose

    def data(self) -> bytes:
        """The whole file; no readings of the inertial sensor follow the frames."""
        return self.header() + b"".join(map(self.frame, range(len(self.frames)))) + struct.pack("<Q", 0)

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data())
        return path
