"""ScanNet's recordings: the binary `.sens` format, version 4, of which only what is asked for is read.

All numbers are little-endian. A header (version, name of the sensor, four calibration matrices, kinds of compression,
sizes, number of frames) is followed by the frames, each a pose, two time stamps, two lengths, and that many bytes of
color and of depth. What follows the frames, the readings of the inertial sensor, is left alone.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import reading_picture, rgb_pixels

VERSION = 4

COLOR_COMPRESSIONS = {0: "raw", 1: "png", 2: "jpeg"}

DEPTH_COMPRESSIONS = {-1: "unknown", 0: "raw_ushort", 1: "zlib_ushort", 2: "occi_ushort"}

LONGEST_SENSOR_NAME = 4096
LONGEST_SIDE = 65_535
"""What a sound header stays below by far; both keep a damaged one from asking for memory."""

_PREFIX = struct.Struct("<IQ")
"""Version and length of the sensor's name."""

_SETTINGS = struct.Struct("<64f2i4IfQ")
"""Intrinsics and extrinsics of color, then of depth; compressions; widths and heights; depth's unit; frames."""

_FRAME = np.dtype(
    [
        ("pose", "<f4", (4, 4)),
        ("color_timestamp", "<u8"),
        ("depth_timestamp", "<u8"),
        ("color_bytes", "<u8"),
        ("depth_bytes", "<u8"),
    ]
)
"""What stands before the pixels of a frame."""

_ADVICE = "Download or copy the file again."


@dataclass(frozen=True, eq=False)
class SensFile:
    """One recording: its calibration, and where its frames lie; made by `SensFile.open`.

    Attributes:
        path: The file.
        sensor: Name of the sensor.
        color_intrinsic: Projection of the color camera.
        color_extrinsic: Its place in the rig.
        depth_intrinsic: Projection of the depth camera.
        depth_extrinsic: Its place in the rig.
        color_compression: raw, png or jpeg.
        depth_compression: How the depth that is never read is packed.
        color_size: Width and height of the color pictures.
        depth_size: Width and height of the depth pictures.
        depth_shift: Units of depth in a meter.
        poses: From camera to world, for every frame; not finite where tracking was lost.
        color_offsets: Where the color of every frame begins in the file.
        color_lengths: How many bytes it takes.
        problem: What keeps the file from being whole, or None.
    """

    path: Path
    sensor: str
    color_intrinsic: Float32[np.ndarray, "4 4"]
    color_extrinsic: Float32[np.ndarray, "4 4"]
    depth_intrinsic: Float32[np.ndarray, "4 4"]
    depth_extrinsic: Float32[np.ndarray, "4 4"]
    color_compression: str
    depth_compression: str
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_shift: float
    poses: Float32[np.ndarray, "frames 4 4"]
    color_offsets: Int64[np.ndarray, " frames"]
    color_lengths: Int64[np.ndarray, " frames"]
    problem: str | None

    @classmethod
    def open(cls, path: Path, strict: bool = True) -> SensFile:
        """Reads the header, and goes once from frame to frame without reading their pixels.

        Args:
            path: The file.
            strict: Whether a file that breaks off or is damaged within its frames is refused. Otherwise the whole
                frames before that place are kept, and `problem` says what is wrong.

        Raises:
            GenLangSplatError: If the file cannot be read, is no `.sens` file of version 4, has a damaged header, holds
                no whole frame, or is not whole though `strict` asks for it.
        """
        try:
            # Unbuffered: a buffer would be filled anew after every jump.
            with path.open("rb", buffering=0) as file:
                return cls._read(path, file, os.fstat(file.fileno()).st_size, strict)
        except OSError as error:
            raise GenLangSplatError(f"{path} cannot be read ({error.strerror or error}). {_ADVICE}") from error

    @classmethod
    def _read(cls, path: Path, file: io.FileIO, size: int, strict: bool) -> SensFile:
        sensor, settings = _read_header(path, file)
        matrices = np.array(settings[:64], dtype=np.float32).reshape(4, 4, 4)
        color_kind, depth_kind, *sides, depth_shift, num_frames = settings[64:]
        color_size, depth_size = (sides[0], sides[1]), (sides[2], sides[3])
        _check_settings(path, color_kind, depth_kind, color_size, num_frames)
        headers, offsets, damage = _index_frames(file, size, num_frames, color_size)
        problem = None
        if damage is not None:
            problem = f"{path} {damage}: {len(headers)} of its {num_frames} frames are whole. {_ADVICE}"
            if strict or not len(headers):
                raise GenLangSplatError(problem)
        return cls(
            path=path,
            sensor=sensor,
            color_intrinsic=matrices[0],
            color_extrinsic=matrices[1],
            depth_intrinsic=matrices[2],
            depth_extrinsic=matrices[3],
            color_compression=COLOR_COMPRESSIONS[color_kind],
            depth_compression=DEPTH_COMPRESSIONS[depth_kind],
            color_size=color_size,
            depth_size=depth_size,
            depth_shift=depth_shift,
            poses=headers["pose"].astype(np.float32),
            color_offsets=offsets,
            color_lengths=headers["color_bytes"].astype(np.int64),
            problem=problem,
        )

    def __len__(self) -> int:
        """Number of whole frames."""
        return len(self.poses)

    @property
    def tracked(self) -> Bool[np.ndarray, " frames"]:
        """Which frames have a pose."""
        return np.isfinite(self.poses).all(axis=(1, 2))

    def color(self, index: int, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
        """Reads the color picture of one frame.

        Args:
            index: Number of the frame, from 0.
            max_side: Limit of the long side.

        Raises:
            GenLangSplatError: If there is no such frame, or its picture is damaged or of another size than the
                header's.
        """
        name = f"Frame {index} of {self.path}"
        if not 0 <= index < len(self):
            raise GenLangSplatError(f"{name} does not exist: there are {len(self)} frames, from 0.")
        with reading_picture(name, _ADVICE):
            with self.path.open("rb", buffering=0) as file:
                file.seek(int(self.color_offsets[index]))
                data = file.read(int(self.color_lengths[index]))
            return rgb_pixels(self._decode(data), name, max_side)

    def _decode(self, data: bytes) -> Image.Image:
        if self.color_compression == "raw":
            return Image.frombytes("RGB", self.color_size, data)
        picture = Image.open(io.BytesIO(data), formats=[self.color_compression])
        if picture.size != self.color_size:
            (width, height), expected = picture.size, self.color_size
            raise ValueError(f"it has {width}x{height} pixels, and the header says {expected[0]}x{expected[1]}")
        return picture


def _read_header(path: Path, file: io.FileIO) -> tuple[str, tuple]:
    """Name of the sensor, and the fields of `_SETTINGS`."""
    prefix = file.read(_PREFIX.size)
    version = int.from_bytes(prefix[:4], "little")
    if len(prefix) >= 4 and version != VERSION:
        raise GenLangSplatError(
            f"{path} begins with version {version}, but only .sens files of version {VERSION} can be read. "
            "Give a recording as ScanNet ships it, or an exported folder with color/."
        )
    if len(prefix) == _PREFIX.size:
        _, length = _PREFIX.unpack(prefix)
        if length > LONGEST_SENSOR_NAME:
            raise GenLangSplatError(f"{path} is damaged: its sensor's name would take {length} bytes. {_ADVICE}")
        sensor, settings = file.read(length), file.read(_SETTINGS.size)
        if len(settings) == _SETTINGS.size:
            return sensor.decode("utf-8", errors="replace"), _SETTINGS.unpack(settings)
    raise GenLangSplatError(f"{path} breaks off within its header. {_ADVICE}")


def _check_settings(path: Path, color_kind: int, depth_kind: int, color_size: tuple[int, int], num_frames: int) -> None:
    if color_kind not in COLOR_COMPRESSIONS:
        known = ", ".join(f"{number} ({name})" for number, name in COLOR_COMPRESSIONS.items())
        raise GenLangSplatError(
            f"{path} says that its color is compressed by method {color_kind}; known are {known}. {_ADVICE}"
        )
    if depth_kind not in DEPTH_COMPRESSIONS:
        raise GenLangSplatError(f"{path} is damaged: method {depth_kind} of compressing depth is none. {_ADVICE}")
    if not all(1 <= side <= LONGEST_SIDE for side in color_size):
        raise GenLangSplatError(
            f"{path} is damaged: its color pictures would have {color_size[0]}x{color_size[1]} pixels. {_ADVICE}"
        )
    if num_frames == 0:
        raise GenLangSplatError(f"{path} holds no frames. {_ADVICE}")


def _index_frames(
    file: io.FileIO, size: int, num_frames: int, color_size: tuple[int, int]
) -> tuple[np.ndarray, Int64[np.ndarray, " frames"], str | None]:
    """Goes from frame to frame.

    Args:
        file: The open file, where its frames begin.
        size: Its length in bytes.
        num_frames: How many frames it claims to have.
        color_size: Width and height of the color pictures.

    Returns:
        What stands before the pixels of every whole frame, as `_FRAME`; where these pixels begin; and what is wrong
        with the first frame that is not whole, or None.
    """
    # No sound compression doubles a picture; a length beyond that is damage, not a picture.
    longest_color = 2 * 3 * color_size[0] * color_size[1] + 65_536
    headers: list[bytes] = []
    offsets: list[int] = []
    damage = None
    position = file.tell()
    # Nothing is set aside for the number of frames that is claimed, which may be damaged itself.
    while damage is None and len(headers) < num_frames:
        file.seek(position)
        header = file.read(_FRAME.itemsize)
        if len(header) < _FRAME.itemsize:
            damage = f"breaks off before or within the head of frame {len(headers)}"
            break
        *_, color_bytes, depth_bytes = struct.unpack_from("<4Q", header, 64)
        start = position + _FRAME.itemsize
        position = start + color_bytes + depth_bytes
        if color_bytes > longest_color:
            damage = f"is damaged: the color of frame {len(headers)} would take {color_bytes} bytes"
        elif position > size:
            damage = f"breaks off at byte {size}, but frame {len(headers)} would end at byte {position}"
        else:
            headers.append(header)
            offsets.append(start)
    return np.frombuffer(b"".join(headers), dtype=_FRAME), np.array(offsets, dtype=np.int64), damage
