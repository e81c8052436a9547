"""Focal length, camera and position from EXIF data, with the errors that cameras make in them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from genlangsplat_ns.photographs.exif import ShotData, read_shot_data

EXIF, GPS = 0x8769, 0x8825


def shot(
    folder: Path,
    details: dict[int, Any],
    gps: dict[int, Any] | None = None,
    top: dict[int, Any] | None = None,
    size: tuple[int, int] = (400, 300),
) -> ShotData:
    """What is read from a JPEG file with these entries."""
    exif = Image.Exif()
    for tag, value in (top or {}).items():
        exif[tag] = value
    exif.get_ifd(EXIF).update(details)
    exif.get_ifd(GPS).update(gps or {})
    Image.new("RGB", size).save(folder / "a.jpg", exif=exif)
    with Image.open(folder / "a.jpg") as file:
        return read_shot_data(file)


def test_the_equivalent_focal_length_is_relative_to_the_diagonal(tmp_path: Path) -> None:
    # 43.27 mm is the diagonal of 35 mm film, so the focal length is the diagonal of the photograph: 500 of 400 pixels.
    assert shot(tmp_path, {0xA405: 43}).focal == pytest.approx(1.25, rel=0.01)


def test_without_it_the_resolution_of_the_sensor_gives_the_focal_length(tmp_path: Path) -> None:
    # 5 mm at 4000 pixels per centimeter are 2000 pixels, of a photograph that was 4000 pixels wide.
    details = {0x920A: IFDRational(5, 1), 0xA20E: IFDRational(4000, 1), 0xA210: 3, 0xA002: 4000, 0xA003: 3000}
    assert shot(tmp_path, details).focal == pytest.approx(0.5)


@pytest.mark.parametrize("details", [{}, {0xA405: 0}, {0xA405: 60000}, {0x920A: IFDRational(5, 0)}])
def test_missing_and_impossible_focal_lengths_are_unknown(tmp_path: Path, details: dict[int, Any]) -> None:
    assert shot(tmp_path, details).focal is None


def test_the_camera_is_named_by_maker_model_and_focal_length(tmp_path: Path) -> None:
    found = shot(tmp_path, {0x920A: IFDRational(42, 10)}, top={0x010F: "Maker", 0x0110: "One "})
    assert found.camera == "Maker One 4.2 mm"


def test_positions_are_in_degrees_with_a_sign(tmp_path: Path) -> None:
    degrees = tuple(map(IFDRational, (Fraction(33), Fraction(30), Fraction(0))))
    found = shot(tmp_path, {}, {1: "S", 2: degrees, 3: "E", 4: degrees})
    assert found.position == pytest.approx((-33.5, 33.5))


def test_a_position_of_zeros_is_none(tmp_path: Path) -> None:
    zeros = tuple(map(IFDRational, (0, 0, 0)))
    assert shot(tmp_path, {}, {1: "N", 2: zeros, 3: "E", 4: zeros}).position is None
    assert shot(tmp_path, {}, {1: "N", 2: zeros[:2]}).position is None


def test_a_picture_without_exif_data_is_known_for_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        assert read_shot_data(file) == ShotData()
