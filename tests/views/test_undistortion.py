"""Undistortion has the pixels and cameras of nerfstudio's, and knows which pixels show the photograph."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers.full_images_datamanager import _undistort_image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.cameras import undistort_points
from genlangsplat_ns.views.undistortion import Undistortion, undistortion_of

SIZE = (220, 160)
BROWN = {
    "barrel": [-0.2, 0.06, 0.003, 0.0, 0.002, -0.003],
    "pincushion": [0.15, -0.03, 0.0, 0.0, -0.002, 0.001],
    "tangential alone": [0.0, 0.0, 0.0, 0.0, 0.004, -0.005],
}
FISHEYE = {"one term": [0.03, 0.0, 0.0, 0.0, 0.0, 0.0], "four terms": [0.05, -0.02, 0.008, -0.003, 0.0, 0.0]}


def camera(distortion: list[float] | None, fisheye: bool = False, focal: float = 150.0) -> Cameras:
    width, height = SIZE
    return Cameras(
        camera_to_worlds=torch.eye(4)[:3],
        fx=focal,
        fy=focal * 1.01,
        cx=width / 2 + 3.2,
        cy=height / 2 - 2.1,
        width=width,
        height=height,
        distortion_params=None if distortion is None else torch.tensor(distortion),
        camera_type=CameraType.FISHEYE if fisheye else CameraType.PERSPECTIVE,
    )


def undistortion(distortion: list[float] | None, fisheye: bool = False, focal: float = 150.0) -> Undistortion:
    found = undistortion_of(camera(distortion, fisheye, focal))
    assert found is not None
    return found


CASES = [(values, False) for values in BROWN.values()] + [(values, True) for values in FISHEYE.values()]
LENSES = pytest.mark.parametrize(("distortion", "fisheye"), CASES, ids=[*BROWN, *FISHEYE])


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@LENSES
def test_pixels_and_cameras_equal_those_of_nerfstudio(
    rng: np.random.Generator, distortion: list[float], fisheye: bool, kind: type
) -> None:
    picture = rng.integers(0, 256, (SIZE[1], SIZE[0], 4)).astype(kind)
    lens = camera(distortion, fisheye)
    matrix = lens.get_intrinsics_matrices().numpy()
    expected_matrix, expected, _ = _undistort_image(lens, np.array(distortion, np.float32), {}, picture, matrix)
    found = undistortion(distortion, fisheye)
    assert np.array_equal(found.picture(picture), expected)
    assert found.size == expected.shape[1::-1]
    assert found.intrinsics == tuple(map(float, expected_matrix[[0, 1, 0, 1], [0, 1, 2, 2]]))


@pytest.mark.parametrize("distortion", [None, [0.0] * 6])
def test_a_perspective_camera_without_distortion_stays(distortion: list[float] | None) -> None:
    assert undistortion_of(camera(distortion)) is None


@pytest.mark.parametrize("distortion", [None, [0.0] * 6])
def test_a_fisheye_lens_without_coefficients_is_equidistant(distortion: list[float] | None) -> None:
    """A ring at an angle of the photograph is found at the tangent of that angle."""
    focal, angle = 100.0, math.radians(30)
    lens = camera(distortion, fisheye=True, focal=focal)
    found = undistortion(distortion, fisheye=True, focal=focal)
    fx, fy, cx, cy = found.intrinsics
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    radius = np.hypot((columns - float(lens.cx)) / focal, (rows - float(lens.cy)) / (focal * 1.01))
    inside = found.picture((radius < angle).astype(np.float32)) > 0.5
    rows, columns = np.mgrid[: found.size[1], : found.size[0]] + 0.5
    expected = np.hypot((columns - cx) / fx, (rows - cy) / fy) < math.tan(angle)
    assert (inside != expected).mean() < 0.004
    directions = np.array([[math.tan(angle), 0.0], [0.0, -math.tan(angle)]])
    view = camera(None)
    view.fx[0], view.fy[0], view.cx[0], view.cy[0] = fx, fy, cx, cy
    on_photograph = np.array([[angle, 0.0], [0.0, -angle]]) * [focal, focal * 1.01]
    on_photograph += [float(lens.cx) - 0.5, float(lens.cy) - 0.5]
    moved = undistort_points(on_photograph, SIZE, lens, view)
    assert np.abs(moved - (directions * [fx, fy] + [cx - 0.5, cy - 0.5])).max() < 1e-3


@pytest.mark.parametrize("distortion", BROWN.values(), ids=BROWN)
def test_a_view_of_an_ordinary_lens_shows_the_photograph_everywhere(distortion: list[float]) -> None:
    assert undistortion(distortion).shown.all()


@pytest.mark.parametrize("fisheye", [False, True])
def test_pixels_beyond_the_photograph_are_not_shown(fisheye: bool) -> None:
    """A view of twice the width shows the white photograph in the middle, and black around it."""
    found = undistortion([-0.1, 0.0, 0.0, 0.0, 0.0, 0.0], fisheye)
    found = replace(found, matrix=found.matrix * np.array([[0.5, 1, 1], [1, 0.5, 1], [1, 1, 1]], np.float32))
    white = found.picture(np.full((SIZE[1], SIZE[0], 3), 255, np.uint8))
    assert 0.3 < (~found.shown).mean() < 0.9
    assert not white[~found.shown].any() and white[found.shown].any(axis=-1).mean() > 0.99
    assert np.array_equal(found.mask(np.ones(SIZE[::-1], bool)), found.shown)


@LENSES
def test_a_pixel_is_kept_only_if_all_that_it_shows_is_kept(distortion: list[float], fisheye: bool) -> None:
    found = undistortion(distortion, fisheye)
    kept = np.ones(SIZE[::-1], bool)
    kept[60:90, 50:120] = False
    moved = found.mask(kept)
    picture = np.where(kept, 0, 255).astype(np.uint8)
    assert not found.picture(picture)[moved].any(), "a masked pixel is visible"
    dropped = found.shown & ~moved
    assert found.picture(kept.astype(np.float32))[dropped].max() < 0.999
    assert 1000 < dropped.sum() < 4000


@pytest.mark.parametrize(
    ("distortion", "fisheye", "focal"),
    [
        (None, True, 70.0),
        (None, True, 60.0),
        ([-0.2, 0.0, 0.0, 0.0, 0.0, 0.0], True, 60.0),
        ([0.2, 0.1, 0.1, 0.1, 0.0, 0.0], True, 10.0),
        ([-0.3, 0.0, 0.0, 0.0, 0.0, 0.0], True, 130.0),
    ],
)
def test_a_lens_too_wide_for_one_view_is_refused(distortion: list[float] | None, fisheye: bool, focal: float) -> None:
    with pytest.raises(GenLangSplatError, match=r"220x160.*too wide or too distorted.*Crop.*perspective"):
        undistortion(distortion, fisheye, focal)


def test_other_lenses_are_refused() -> None:
    with pytest.raises(GenLangSplatError, match="k4"):
        undistortion([0.1, 0.0, 0.0, 0.1, 0.0, 0.0])
    panorama = camera(None)
    panorama.camera_type = torch.full_like(panorama.camera_type, CameraType.EQUIRECTANGULAR.value)
    with pytest.raises(GenLangSplatError, match="EQUIRECTANGULAR"):
        undistortion_of(panorama)
