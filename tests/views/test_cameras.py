"""Cameras: axes, intrinsics, and mapping points from raw photographs to undistorted views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers.full_images_datamanager import _undistort_image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.cameras import undistort_points, view_of_camera


def make_camera(distortion: list[float] | None = None, kind: CameraType = CameraType.PERSPECTIVE) -> Cameras:
    pose = torch.eye(4)[:3]
    pose[:, 3] = torch.tensor([0.5, -0.2, 3.0])
    return Cameras(
        camera_to_worlds=pose[None],
        fx=200.0,
        fy=210.0,
        cx=160.0,
        cy=121.0,
        width=320,
        height=240,
        distortion_params=None if distortion is None else torch.tensor([distortion]),
        camera_type=kind,
    )


def test_points_project_like_in_a_pinhole_camera() -> None:
    view = view_of_camera(make_camera())
    point = torch.tensor([0.7, 0.1, 1.0, 1.0])  # 2 in front, 0.2 to the right, 0.3 above.
    in_camera = view.viewmat @ point
    assert torch.allclose(in_camera[:3], torch.tensor([0.2, -0.3, 2.0]), atol=1e-6)
    pixel = view.K @ in_camera[:3]
    assert torch.allclose(pixel[:2] / pixel[2], torch.tensor([160 + 20.0, 121 - 31.5]), atol=1e-4)


def test_downscaling_divides_intrinsics_and_rounds_sizes_down() -> None:
    full, half = view_of_camera(make_camera()), view_of_camera(make_camera(), downscale=2)
    assert (half.width, half.height) == (160, 120)
    assert torch.allclose(half.K[:2], full.K[:2] / 2)


def test_other_cameras_are_refused() -> None:
    with pytest.raises(GenLangSplatError, match="FISHEYE"):
        view_of_camera(make_camera(kind=CameraType.FISHEYE))
    with pytest.raises(GenLangSplatError, match="one camera"):
        view_of_camera(Cameras(torch.eye(4)[None, :3].repeat(2, 1, 1), 1.0, 1.0, 1.0, 1.0, 2, 2))


@pytest.mark.parametrize("distortion", [[0.0] * 6, [0.2, -0.08, 0.01, 0.0, 0.004, -0.003]])
def test_points_move_like_the_pixels_of_the_datamanager(distortion: list[float]) -> None:
    """Bright dots on the raw image are found in nerfstudio's undistorted image within a third of a pixel."""
    raw = make_camera(distortion)
    dots = np.array([[60.0, 50.0], [250.0, 70.0], [161.0, 120.0], [90.0, 190.0], [260.0, 200.0]])
    rows, columns = np.mgrid[:240, :320]
    image = np.zeros((240, 320, 3), dtype=np.float32)
    for x, y in dots:
        image += np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8.0)[..., None]
    view = make_camera()
    if any(distortion):
        matrix = raw[0].get_intrinsics_matrices().numpy()
        matrix, image, _ = _undistort_image(raw[0], np.array(distortion), {}, image, matrix)
        view.fx[0], view.fy[0] = float(matrix[0, 0]), float(matrix[1, 1])
        view.cx[0], view.cy[0] = float(matrix[0, 2]), float(matrix[1, 2])
    moved = undistort_points(dots, (320, 240), raw[0], view[0])
    for x, y in moved:
        left, top = int(x) - 6, int(y) - 6
        patch = image[top : top + 13, left : left + 13, 0]
        patch_rows, patch_columns = np.mgrid[top : top + 13, left : left + 13]
        center = np.array([(patch * patch_columns).sum(), (patch * patch_rows).sum()]) / patch.sum()
        assert np.abs(center - [x, y]).max() < 0.34


def test_points_marked_on_a_resized_photograph_are_scaled_first() -> None:
    camera = make_camera()
    twice = undistort_points(np.array([[101.5, 61.5]]), (640, 480), camera[0], camera[0])
    assert np.allclose(twice, [[50.5, 30.5]], atol=1e-4)
