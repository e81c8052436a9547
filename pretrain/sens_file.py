"""Random access to ScanNet's recordings: the binary `.sens` format, version 4.

All numbers are little-endian. The header contains version, sensor name, four calibration matrices, compression methods,
image sizes and number of frames. Each frame consists of a pose, two timestamps, two lengths, and the bytes of color and
depth. The IMU data after the frames is ignored.
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

MAX_SENSOR_NAME = 4096
MAX_SIDE = 65_535
"""Limits that no valid header reaches; they prevent huge allocations for damaged headers."""

_PREFIX = struct.Struct("<IQ")
"""Version, and length of the sensor name."""

_SETTINGS = struct.Struct("<64f2i4IfQ")
"""Intrinsics and extrinsics of color and depth, compression methods, widths and heights, depth unit, frame count."""

_FRAME = np.dtype(
    [
        ("pose", "<f4", (4, 4)),
        ("color_timestamp", "<u8"),
        ("depth_timestamp", "<u8"),
        ("color_bytes", "<u8"),
        ("depth_bytes", "<u8"),
    ]
)
"""Header of a frame."""

_ADVICE = "Download or copy the file again."


@dataclass(frozen=True, eq=False)
class SensFile:
    """Calibration and frame index of a recording; created with `SensFile.open`.

    Intrinsics are projection matrices, extrinsics are poses of the cameras in the rig, and sizes are width and height.
    The depth is never read.

    Attributes:
        color_compression: raw, png or jpeg.
        depth_shift: Depth units per meter.
        poses: Camera-to-world matrix of each frame; not finite where tracking was lost.
        color_offsets: File offset of the color data of each frame.
        color_lengths: Number of bytes of the color data of each frame.
        problem: Why the file is incomplete, or None.
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
        """Reads the header and indexes the frames without reading pixels.

        Unless `strict`, the frames before the first incomplete or damaged one are kept, and `problem` has the damage.

        Raises:
            GenLangSplatError: If the file cannot be read, is not a `.sens` file of version 4, has a damaged header or
                no complete frame, or is incomplete and `strict` is set.
        """
        try:
            # Unbuffered, because a buffer would be refilled after every seek.
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
            problem = f"{path} {damage}: {len(headers)} of its {num_frames} frames are complete. {_ADVICE}"
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
        """Number of complete frames."""
        return len(self.poses)

    @property
    def tracked(self) -> Bool[np.ndarray, " frames"]:
        """Whether each frame has a pose."""
        return np.isfinite(self.poses).all(axis=(1, 2))

    def color(self, index: int, max_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
        """Reads the color image of one frame; `max_side` is the maximum long side in pixels.

        Raises:
            GenLangSplatError: If there is no such frame, or its image is damaged or does not have the header's size.
        """
        name = f"Frame {index} of {self.path}"
        if not 0 <= index < len(self):
            raise GenLangSplatError(f"{name} does not exist: the file has {len(self)} frames, numbered from 0.")
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
            raise ValueError(f"it has {width}x{height} pixels, expected {expected[0]}x{expected[1]} from the header")
        return picture


def _read_header(path: Path, file: io.FileIO) -> tuple[str, tuple]:
    """Returns the sensor name, and the fields of `_SETTINGS`."""
    prefix = file.read(_PREFIX.size)
    version = int.from_bytes(prefix[:4], "little")
    if len(prefix) >= 4 and version != VERSION:
        raise GenLangSplatError(
            f"{path} has version {version}, but only .sens files of version {VERSION} can be read. "
            "Give an original recording of ScanNet, or an exported folder with color/."
        )
    if len(prefix) == _PREFIX.size:
        _, length = _PREFIX.unpack(prefix)
        if length > MAX_SENSOR_NAME:
            raise GenLangSplatError(f"{path} is damaged: the length of its sensor name is {length} bytes. {_ADVICE}")
        sensor, settings = file.read(length), file.read(_SETTINGS.size)
        if len(settings) == _SETTINGS.size:
            return sensor.decode("utf-8", errors="replace"), _SETTINGS.unpack(settings)
    raise GenLangSplatError(f"{path} is truncated within its header. {_ADVICE}")


def _check_settings(path: Path, color_kind: int, depth_kind: int, color_size: tuple[int, int], num_frames: int) -> None:
    if color_kind not in COLOR_COMPRESSIONS:
        known = ", ".join(f"{number} ({name})" for number, name in COLOR_COMPRESSIONS.items())
        raise GenLangSplatError(f"{path} has the color compression {color_kind}, expected one of {known}. {_ADVICE}")
    if depth_kind not in DEPTH_COMPRESSIONS:
        raise GenLangSplatError(f"{path} is damaged: it has the unknown depth compression {depth_kind}. {_ADVICE}")
    if not all(1 <= side <= MAX_SIDE for side in color_size):
        raise GenLangSplatError(
            f"{path} is damaged: the size of its color images is {color_size[0]}x{color_size[1]}. {_ADVICE}"
        )
    if num_frames == 0:
        raise GenLangSplatError(f"{path} contains no frames. {_ADVICE}")


def _index_frames(
    file: io.FileIO, size: int, num_frames: int, color_size: tuple[int, int]
) -> tuple[np.ndarray, Int64[np.ndarray, " frames"], str | None]:
    """Returns headers and pixel offsets of the complete frames, and the damage of the first incomplete one or None."""
    # Compression never doubles the size of an image, so a larger length is damage.
    max_color_bytes = 2 * 3 * color_size[0] * color_size[1] + 65_536
    headers: list[bytes] = []
    offsets: list[int] = []
    damage = None
    position = file.tell()
    # Nothing is preallocated, because the number of frames may be damaged.
    while damage is None and len(headers) < num_frames:
        file.seek(position)
        header = file.read(_FRAME.itemsize)
        if len(header) < _FRAME.itemsize:
            damage = f"is truncated before or within the header of frame {len(headers)}"
            break
        *_, color_bytes, depth_bytes = struct.unpack_from("<4Q", header, 64)
        start = position + _FRAME.itemsize
        position = start + color_bytes + depth_bytes
        if color_bytes > max_color_bytes:
            damage = f"is damaged: the color of frame {len(headers)} has a length of {color_bytes} bytes"
        elif position > size:
            damage = f"is truncated at byte {size}, but frame {len(headers)} ends at byte {position}"
        else:
            headers.append(header)
            offsets.append(start)
    return np.frombuffer(b"".join(headers), dtype=_FRAME), np.array(offsets, dtype=np.int64), damage
