"""What the EXIF data of a photograph say about its camera: name, focal length and position."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

MAKE, MODEL = 0x010F, 0x0110
EXIF_DIRECTORY, GPS_DIRECTORY = 0x8769, 0x8825
FOCAL_LENGTH, FOCAL_LENGTH_35_MM = 0x920A, 0xA405
WIDTH, HEIGHT = 0xA002, 0xA003
SENSOR_RESOLUTION, RESOLUTION_UNIT = 0xA20E, 0xA210
LATITUDE_REFERENCE, LATITUDE, LONGITUDE_REFERENCE, LONGITUDE = 1, 2, 3, 4

DIAGONAL_35_MM = math.hypot(36.0, 24.0)
"""Diagonal in millimeters of a frame of 35 mm film."""

UNITS = {2: 25.4, 3: 10.0, 4: 1.0}
"""Millimeters of EXIF's units of resolution: inch, centimeter, millimeter."""

PLAUSIBLE = (0.2, 20.0)
"""Focal lengths relative to the long side outside of this range are wrong."""


@dataclass(frozen=True)
class ShotData:
    """EXIF data of one photograph, as far as they concern its camera."""

    camera: str = ""
    """Maker, model and focal length in millimeters."""
    focal: float | None = None
    """Focal length divided by the long side of the photograph."""
    position: tuple[float, float] | None = None
    """Latitude and longitude in degrees."""


def read_shot_data(picture: Image.Image) -> ShotData:
    """Reads the EXIF data of an open image; what is missing or damaged is left out."""
    exif = picture.getexif()
    details, gps = exif.get_ifd(EXIF_DIRECTORY), exif.get_ifd(GPS_DIRECTORY)
    words = [str(exif.get(tag, "")).strip("\0 ") for tag in (MAKE, MODEL)]
    focal = _number(details.get(FOCAL_LENGTH))
    if focal:
        words.append(f"{focal:g} mm")
    camera = " ".join(word for word in words if word)
    return ShotData(camera, _focal(details, focal, picture.size), _position(gps))


def _number(value: Any) -> float | None:
    """Converts an EXIF value, which may be a fraction with the denominator 0; None if it is no finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def _focal(details: Mapping[int, Any], focal: float | None, size: tuple[int, int]) -> float | None:
    long_side = max(size)
    candidates = []
    if equivalent := _number(details.get(FOCAL_LENGTH_35_MM)):
        candidates.append(equivalent / DIAGONAL_35_MM * math.hypot(*size) / long_side)
    unit = UNITS.get(int(_number(details.get(RESOLUTION_UNIT)) or 0))
    resolution = _number(details.get(SENSOR_RESOLUTION))
    sides = [_number(details.get(tag)) for tag in (WIDTH, HEIGHT)]
    # The resolution belongs to the size that the camera recorded, not to a scaled copy.
    recorded = max((side for side in sides if side), default=float(long_side))
    if focal and unit and resolution:
        candidates.append(focal * resolution / unit / recorded)
    return next((value for value in candidates if PLAUSIBLE[0] <= value <= PLAUSIBLE[1]), None)


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    latitude = _degrees(gps.get(LATITUDE), gps.get(LATITUDE_REFERENCE), "S")
    longitude = _degrees(gps.get(LONGITUDE), gps.get(LONGITUDE_REFERENCE), "W")
    # Cameras without a fix write zeros.
    if latitude is None or longitude is None or (latitude, longitude) == (0.0, 0.0):
        return None
    return latitude, longitude


def _degrees(values: Any, reference: Any, negative: str) -> float | None:
    """Converts degrees, minutes and seconds."""
    if not isinstance(values, tuple) or len(values) != 3:
        return None
    degrees, minutes, seconds = (_number(value) for value in values)
    if degrees is None or minutes is None or seconds is None:
        return None
    total = degrees + minutes / 60 + seconds / 3600
    return -total if str(reference).strip("\0 ").upper() == negative else total
