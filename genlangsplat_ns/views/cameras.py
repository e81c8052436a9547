"""Converts nerfstudio cameras to views of the rasterizer, and points of raw photographs to undistorted views."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import View
from genlangsplat_ns.views.undistortion import lens_of, undistorted_rays


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
        raise GenLangSplatError(
            f"Expected one camera at a time, found a batch of shape {tuple(camera.shape)}. Give one."
        )
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
    """Computes the scene point at the center of a pixel (x, y); `depth` is along the optical axis."""
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
    lens = lens_of(raw)
    rays = undistorted_rays(lens, (points + 0.5) * np.divide(lens.size, raw_size) - 0.5)
    focal, center = (float(view.fx), float(view.fy)), (float(view.cx), float(view.cy))
    return rays * focal + center - 0.5
