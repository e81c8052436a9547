"""Random access to the color images of ScanNet's recordings: the binary `.sens` format, version 4.

All numbers are little-endian. The header contains version, sensor name, four calibration matrices, compression methods,
image sizes and number of frames. Each frame consists of a pose, two timestamps, two lengths, and the bytes of color and
depth. The IMU data after the frames is ignored.
"""

from __future__ import annotations

import io
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import most_pixels_in, open_picture, reading_picture, rgb_pixels

VERSION = 4

COLOR_COMPRESSIONS = {0: "raw", 1: "png", 2: "jpeg"}

MAX_SENSOR_NAME = 4096
MAX_SIDE = 65_535
"""Limits that no valid header reaches; they prevent huge allocations for damaged headers."""

_PREFIX = struct.Struct("<IQ")
"""Version, and length of the sensor name."""

_SETTINGS = struct.Struct("<64f2i4IfQ")
"""Intrinsics and extrinsics of color and depth, compression methods, widths and heights, depth unit, frame count."""

_FRAME = struct.Struct("<16f4Q")
"""Pose, timestamps of color and depth, and their numbers of bytes."""

_ADVICE = "Download or copy the file again."


@dataclass(frozen=True, eq=False)
class SensFile:
    """The frame index of a recording; created with `SensFile.open`."""

    path: Path
    color_compression: str
    """raw, png or jpeg."""
    color_size: tuple[int, int]
    """Width and height of the color images."""
    frames: list[tuple[bool, int, int]]
    """Of each complete frame: whether it has a pose, and the file offset and number of bytes of its color data."""
    problem: str | None
    """Why the file is incomplete, or None."""

    @classmethod
    def open(cls, path: Path) -> SensFile:
        """Reads the header and indexes the frames without reading pixels.

        The frames before the first incomplete or damaged one are kept, and `problem` has the damage.

        Raises:
            GenLangSplatError: If the file cannot be read, is not a `.sens` file of version 4, or has a damaged header
                or no complete frame.
        """
        try:
            # Unbuffered, because a buffer would be refilled after every seek.
            with path.open("rb", buffering=0) as file:
                compression, color_size, num_frames = _read_header(path, file)
                frames, damage = _index_frames(file, num_frames, color_size)
        except OSError as error:
            raise GenLangSplatError(f"{path} cannot be read ({error.strerror or error}). {_ADVICE}") from error
        problem = None
        if damage is not None:
            problem = f"{path} {damage}: {len(frames)} of its {num_frames} frames are complete. {_ADVICE}"
            if not frames:
                raise GenLangSplatError(problem)
        return cls(path, compression, color_size, frames, problem)

    @property
    def numbers(self) -> range:
        """Numbers of the complete frames."""
        return range(len(self.frames))

    def is_tracked(self, number: int) -> bool:
        """Whether a frame has a pose."""
        return self.frames[number][0]

    def color(self, number: int, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
        """Reads the color image of one frame; `max_side` is the maximum long side in pixels.

        Raises:
            GenLangSplatError: If there is no such frame, or its image is damaged or does not have the header's size.
        """
        name = f"Frame {number} of {self.path}"
        if number not in self.numbers:
            raise GenLangSplatError(
                f"{name} does not exist: the file has {len(self.frames)} frames, numbered from 0. Choose one of them."
            )
        _, offset, length = self.frames[number]
        with reading_picture(name, _ADVICE):
            with self.path.open("rb", buffering=0) as file:
                file.seek(offset)
                data = file.read(length)
            return rgb_pixels(self._decode(data), name, max_side)

    def _decode(self, data: bytes) -> Image.Image:
        if self.color_compression == "raw":
            needed = 3 * math.prod(self.color_size)
            if len(data) != needed:
                raise ValueError(f"it has {len(data):,} bytes, expected {needed:,}")
            return Image.frombytes("RGB", self.color_size, data)
        picture = open_picture(io.BytesIO(data), most_pixels_in(len(data)), (self.color_compression,))
        if picture.size != self.color_size:
            (width, height), expected = picture.size, self.color_size
            raise ValueError(f"it has {width}x{height} pixels, expected {expected[0]}x{expected[1]} from the header")
        return picture


def _read_header(path: Path, file: io.FileIO) -> tuple[str, tuple[int, int], int]:
    """Returns color compression, color size and number of frames."""
    prefix = file.read(_PREFIX.size)
    version = int.from_bytes(prefix[:4], "little")
    if len(prefix) >= 4 and version != VERSION:
        raise GenLangSplatError(
            f"{path} has version {version}, but only .sens files of version {VERSION} can be read. "
            "Give an original recording of ScanNet, or an exported folder with color/."
        )
    length = _PREFIX.unpack(prefix)[1] if len(prefix) == _PREFIX.size else 0
    if length > MAX_SENSOR_NAME:
        raise GenLangSplatError(f"{path} is damaged: the length of its sensor name is {length} bytes. {_ADVICE}")
    file.read(length)
    settings = file.read(_SETTINGS.size)
    if len(settings) < _SETTINGS.size:
        raise GenLangSplatError(f"{path} is truncated within its header. {_ADVICE}")
    kind, _, width, height, *_, num_frames = _SETTINGS.unpack(settings)[64:]
    if kind not in COLOR_COMPRESSIONS:
        known = ", ".join(f"{number} ({name})" for number, name in COLOR_COMPRESSIONS.items())
        raise GenLangSplatError(f"{path} has the color compression {kind}, expected one of {known}. {_ADVICE}")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise GenLangSplatError(f"{path} is damaged: the size of its color images is {width}x{height}. {_ADVICE}")
    if num_frames == 0:
        raise GenLangSplatError(f"{path} contains no frames. {_ADVICE}")
    return COLOR_COMPRESSIONS[kind], (width, height), num_frames


def _index_frames(
    file: io.FileIO, num_frames: int, color_size: tuple[int, int]
) -> tuple[list[tuple[bool, int, int]], str | None]:
    """Returns the complete frames, and the damage of the first incomplete one or None."""
    # Compression never doubles the size of an image, so a larger length is damage.
    max_color_bytes = 2 * 3 * color_size[0] * color_size[1] + 65_536
    size, position = os.fstat(file.fileno()).st_size, file.tell()
    frames: list[tuple[bool, int, int]] = []
    # Nothing is preallocated, because the number of frames may be damaged.
    for number in range(num_frames):
        file.seek(position)
        header = file.read(_FRAME.size)
        if len(header) < _FRAME.size:
            return frames, f"is truncated before or within the header of frame {number}"
        *pose, _, _, color_bytes, depth_bytes = _FRAME.unpack(header)
        start, position = position + _FRAME.size, position + _FRAME.size + color_bytes + depth_bytes
        if color_bytes > max_color_bytes:
            return frames, f"is damaged: the color of frame {number} has a length of {color_bytes} bytes"
        if position > size:
            return frames, f"is truncated at byte {size}, but frame {number} ends at byte {position}"
        frames.append((bool(np.isfinite(pose).all()), start, color_bytes))
    return frames, None
