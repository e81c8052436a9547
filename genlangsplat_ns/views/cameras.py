"""Converts nerfstudio cameras for the rasterizer, and points of raw photographs to undistorted views."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True)
class ViewGeometry:
    """One pinhole view in the rasterizer's conventions (OpenCV axes, pixels)."""

    viewmats: Float[Tensor, "1 4 4"]
    """World-to-camera matrix."""
    intrinsics: Float[Tensor, "1 3 3"]
    """Focal lengths and principal point in pixels."""
    width: int
    height: int


def world_to_camera(camera_to_world: Float[Tensor, "1 rows 4"]) -> Float[Tensor, "1 4 4"]:
    """Inverts a rigid camera pose and converts nerfstudio's axes (y up, looking along -z) to OpenCV's."""
    flip = camera_to_world.new_tensor([1.0, -1.0, -1.0])
    rotation = (camera_to_world[:, :3, :3] * flip).transpose(1, 2)
    translation = -rotation @ camera_to_world[:, :3, 3:]
    bottom = camera_to_world.new_tensor([[[0.0, 0.0, 0.0, 1.0]]])
    return torch.cat([torch.cat([rotation, translation], dim=2), bottom], dim=1)


def view_geometry(
    camera: Cameras, camera_to_world: Float[Tensor, "1 rows 4"] | None = None, downscale: int = 1
) -> ViewGeometry:
    """Converts one camera.

    Args:
        camera: A batch of exactly one perspective camera.
        camera_to_world: A pose, such as an optimized one, that replaces the camera's own pose.
        downscale: Divisor of the resolution. Sizes are rounded down.

    Raises:
        GenLangSplatError: There is more than one camera, or it is not a perspective camera.
    """
    if camera.shape != (1,):
        raise GenLangSplatError(
            f"Found a batch of cameras of shape {tuple(camera.shape)}; expected one camera at a time. Index the batch."
        )
    if int(camera.camera_type) != CameraType.PERSPECTIVE.value:
        raise GenLangSplatError(
            f"Found a {CameraType(int(camera.camera_type)).name} camera; expected a perspective camera. Rectify the "
            "images."
        )
    intrinsics = camera.get_intrinsics_matrices().clone()
    intrinsics[:, :2] /= downscale
    return ViewGeometry(
        viewmats=world_to_camera(camera.camera_to_worlds if camera_to_world is None else camera_to_world),
        intrinsics=intrinsics,
        width=int(camera.width) // downscale,
        height=int(camera.height) // downscale,
    )


def pixel_in_space(view: ViewGeometry, pixel: tuple[int, int], depth: float) -> tuple[float, float, float]:
    """Unprojects the center of a pixel to world coordinates.

    Args:
        view: The view.
        pixel: The pixel (x, y).
        depth: Distance along the optical axis.
    """
    focal = view.intrinsics[0].diagonal()[:2]
    ray = (focal.new_tensor(pixel) + 0.5 - view.intrinsics[0, :2, 2]) / focal
    x, y, z = torch.linalg.inv(view.viewmats[0])[:3] @ torch.cat([ray * depth, ray.new_tensor([depth, 1.0])])
    return float(x), float(y), float(z)


def undistort_points(
    points: Float[np.ndarray, "count 2"], raw_size: tuple[int, int], raw: Cameras, view: Cameras
) -> Float[np.ndarray, "count 2"]:
    """Maps points of a raw photograph to its undistorted view.

    Args:
        points: Pixel positions (x, y) in an image of `raw_size`; the center of the top left pixel is (0, 0).
        raw_size: Width and height of the image that the points refer to.
        raw: The dataparser's camera, a single perspective or fisheye camera with its distortion.
        view: The datamanager's camera of the same view after undistortion.

    Returns:
        Pixel positions in the undistorted view, in the same convention.

    Raises:
        GenLangSplatError: A perspective camera has more than three radial distortion terms.
    """
    scale = np.array([int(raw.width) / raw_size[0], int(raw.height) / raw_size[1]])
    centered = (points + 0.5) * scale
    focal = np.array([float(raw.fx), float(raw.fy)])
    center = np.array([float(raw.cx), float(raw.cy)])
    rays = (centered - center) / focal
    if raw.distortion_params is not None and bool(raw.distortion_params.any()):
        k1, k2, k3, k4, p1, p2 = raw.distortion_params.reshape(-1).double().numpy()
        bent, identity = rays[:, None], np.eye(3)
        # With OpenCV's default number of iterations, errors near the corners of wide views are several pixels.
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
        if int(raw.camera_type) == CameraType.FISHEYE.value:
            rays = cv2.fisheye.undistortPoints(bent, identity, np.array([k1, k2, k3, k4]), criteria=stop)[:, 0]
        elif k4 != 0:
            raise GenLangSplatError(
                f"Found a distortion parameter k4 of {k4}; expected at most three radial terms. Undistort the images."
            )
        else:
            lens = np.array([k1, k2, p1, p2, k3])
            rays = cv2.undistortPointsIter(bent, identity, lens, identity, identity, stop)[:, 0]
    view_focal = np.array([float(view.fx), float(view.fy)])
    view_center = np.array([float(view.cx), float(view.cy)])
    return rays * view_focal + view_center - 0.5
