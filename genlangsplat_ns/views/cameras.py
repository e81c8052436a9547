"""Converts nerfstudio cameras to views of the rasterizer, and points of raw photographs to undistorted views."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import View


def world_to_camera(camera_to_world: Float[Tensor, "1 rows 4"]) -> Float[Tensor, "1 4 4"]:
    """Inverts a rigid camera pose and converts nerfstudio's axes (y up, looking along -z) to OpenCV's."""
    flip = camera_to_world.new_tensor([1.0, -1.0, -1.0])
    rotation = (camera_to_world[:, :3, :3] * flip).transpose(1, 2)
    translation = -rotation @ camera_to_world[:, :3, 3:]
    bottom = camera_to_world.new_tensor([[[0.0, 0.0, 0.0, 1.0]]])
    return torch.cat([torch.cat([rotation, translation], dim=2), bottom], dim=1)


def view_of_camera(
    camera: Cameras, camera_to_world: Float[Tensor, "1 rows 4"] | None = None, downscale: int = 1
) -> View:
    """Converts one nerfstudio camera to a view.

    Args:
        camera: A batch of exactly one perspective camera.
        camera_to_world: A pose that replaces the camera's own, such as an optimized one.
        downscale: Divides the resolution; sizes are rounded down.

    Raises:
        GenLangSplatError: There is not exactly one camera, or it is not a perspective camera.
    """
    if camera.shape != (1,):
        raise GenLangSplatError(f"Expected one camera at a time, found a batch of shape {tuple(camera.shape)}.")
    if int(camera.camera_type) != CameraType.PERSPECTIVE.value:
        raise GenLangSplatError(
            f"Expected a perspective camera, found {CameraType(int(camera.camera_type)).name}. Rectify the images."
        )
    view = View(
        viewmat=world_to_camera(camera.camera_to_worlds if camera_to_world is None else camera_to_world)[0],
        K=camera.get_intrinsics_matrices()[0],
        width=int(camera.width),
        height=int(camera.height),
    )
    return view.downscaled(downscale)


def pixel_in_space(view: View, pixel: tuple[int, int], depth: float) -> tuple[float, float, float]:
    """Computes the scene point at the center of a pixel.

    Args:
        view: The view.
        pixel: The pixel (x, y).
        depth: Distance along the optical axis.
    """
    focal = view.K.diagonal()[:2]
    ray = (focal.new_tensor(pixel) + 0.5 - view.K[:2, 2]) / focal
    x, y, z = torch.linalg.inv(view.viewmat)[:3] @ torch.cat([ray * depth, ray.new_tensor([depth, 1.0])])
    return float(x), float(y), float(z)


def undistort_points(
    points: Float[np.ndarray, "count 2"], raw_size: tuple[int, int], raw: Cameras, view: Cameras
) -> Float[np.ndarray, "count 2"]:
    """Maps points of a raw photograph to its undistorted view.

    Args:
        points: Pixel positions (x, y) in an image of `raw_size`; the center of the top left pixel is (0, 0).
        raw_size: Width and height of the image that the points refer to.
        raw: The dataparser's camera, one perspective or fisheye camera with its distortion.
        view: The datamanager's camera of the same view after undistortion.

    Returns:
        Pixel positions in the undistorted view, in the same convention.
    """
    scale = np.array([int(raw.width) / raw_size[0], int(raw.height) / raw_size[1]])
    centered = (points + 0.5) * scale
    focal = np.array([float(raw.fx), float(raw.fy)])
    center = np.array([float(raw.cx), float(raw.cy)])
    rays = (centered - center) / focal
    given = raw.distortion_params
    fisheye = int(raw.camera_type) == CameraType.FISHEYE.value
    # A fisheye lens without coefficients is equidistant.
    if fisheye or (given is not None and bool(given.any())):
        k1, k2, k3, k4, p1, p2 = np.zeros(6) if given is None else given.reshape(-1).double().numpy()
        distorted, identity = rays[:, None], np.eye(3)
        # OpenCV's default number of iterations leaves errors of several pixels near the corners of wide views.
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
        if fisheye:
            rays = cv2.fisheye.undistortPoints(distorted, identity, np.array([k1, k2, k3, k4]), criteria=stop)[:, 0]
        elif k4 != 0:
            raise GenLangSplatError(f"Expected at most three radial distortion terms, found k4 = {k4}.")
        else:
            lens = np.array([k1, k2, p1, p2, k3])
            rays = cv2.undistortPointsIter(distorted, identity, lens, identity, identity, stop)[:, 0]
    view_focal = np.array([float(view.fx), float(view.fy)])
    view_center = np.array([float(view.cx), float(view.cy)])
    return rays * view_focal + view_center - 0.5
