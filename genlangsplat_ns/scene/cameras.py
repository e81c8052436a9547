"""The cameras of a query: the views of the scene, a camera path with its crop, or cameras between views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_paths import get_interpolated_camera_path, get_path_from_json
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.model_components.renderers import background_color_override_context
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.settings import CameraSettings
from genlangsplat_ns.utils.json_files import list_of, number_of, numbers_of, object_of, read_json, text_of

MAX_SIDE = 1 << 14
"""Largest side of the images of a camera path, in pixels."""


@dataclass(frozen=True)
class NamedCamera:
    """A camera and the name of its images."""

    name: str
    """Name of the view, or the number of a frame."""
    split: str
    """train or eval for the views of the run, otherwise path or interpolated."""
    camera: Cameras


@dataclass(frozen=True, eq=False)
class SceneCrop:
    """A box that limits what is drawn, as the viewer stores it with a camera path."""

    box: OrientedBox
    """The box, in the coordinate frame of the run."""
    background: Float[Tensor, " 3"]
    """Color behind the Gaussians in the box, 0 to 1."""

    @contextmanager
    def applied_to(self, model: GenLangSplatModel) -> Iterator[None]:
        """Draws only the Gaussians in the box, and resets the model at the end."""
        previous, model.crop_box = model.crop_box, self.box
        try:
            with background_color_override_context(self.background):
                yield
        finally:
            model.crop_box = previous


def cameras_of(scene: LanguageScene, settings: CameraSettings) -> tuple[list[NamedCamera], SceneCrop | None]:
    """Returns the cameras that the settings select, and the crop of their path; None for the whole scene.

    Raises:
        GenLangSplatError: The path cannot be read, or there are too few views.
    """
    if settings.camera_path is not None:
        path, crop = read_camera_path(settings.camera_path)
        return _frames("path", path.to(scene.model.device)), crop
    views = scene.views(settings.split)
    if not views:
        raise GenLangSplatError(f"The run has no views in the split {settings.split}. Choose another with --split.")
    cameras = [NamedCamera(view.name, view.split, scene.camera(view)) for view in views]
    if settings.interpolate is None:
        return cameras, None
    if len(cameras) < 2:
        raise GenLangSplatError(
            f"Found {len(cameras)} view in the split {settings.split}; --interpolate needs at least 2. Choose "
            "another split."
        )
    return _frames("interpolated", _interpolate([item.camera for item in cameras], settings.interpolate)), None


def _interpolate(cameras: list[Cameras], steps: int) -> Cameras:
    """Interpolates `steps` cameras between consecutive cameras, with the image size of the first."""
    names = ("camera_to_worlds", "fx", "fy", "cx", "cy")
    joined: dict[str, Any] = {name: torch.cat([getattr(camera, name) for camera in cameras]) for name in names}
    size: dict[str, Any] = {"width": int(cameras[0].width), "height": int(cameras[0].height)}
    path = get_interpolated_camera_path(Cameras(**joined, **size), steps, order_poses=False)
    return Cameras(path.camera_to_worlds, path.fx, path.fy, path.cx, path.cy, **size).to(cameras[0].device)


def read_camera_path(path: Path) -> tuple[Cameras, SceneCrop | None]:
    """Reads a camera path saved by the viewer: one perspective camera per frame, and the crop if one was on.

    Raises:
        GenLangSplatError: The file is missing, damaged or no camera path, or its cameras are no perspective cameras.
    """
    try:
        stored = object_of(read_json(path), "the file")
        named = stored.get("camera_type")
        kind = "perspective" if named is None else text_of(named, "camera_type")
        if kind.lower() == "perspective":
            crop = stored.get("crop")
            return _path_cameras(stored), None if crop is None else _read_crop(object_of(crop, "its crop"))
    except (OSError, ValueError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as a camera path ({type(error).__name__}: {error}). Give the JSON that the render "
            "tab of ns-viewer saves."
        ) from error
    raise GenLangSplatError(
        f"The cameras of the path {path} are of the type {kind}; queries are answered by perspective cameras. Choose "
        "Perspective in the render tab of ns-viewer and save the path again."
    )


def _path_cameras(stored: dict[str, Any]) -> Cameras:
    """Returns the cameras of a camera path after checking that each of them can be drawn."""
    width, height = (number_of(stored.get(name), name) for name in ("render_width", "render_height"))
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"its images would have {width:g}x{height:g} pixels")
    frames = [object_of(frame, "a camera") for frame in list_of(stored.get("camera_path"), "camera_path")]
    if not frames:
        raise ValueError("it has no camera")
    for frame in frames:
        numbers_of(frame.get("camera_to_world"), "a pose (camera_to_world)", (16,))
        angle = number_of(frame.get("fov"), "a field of view")
        if not 0 < angle < 180:
            raise ValueError(f"a field of view is {angle:g} degrees, expected more than 0 and less than 180")
    # The times of a path belong to methods with moving scenes.
    timeless = [{name: value for name, value in frame.items() if name != "render_time"} for frame in frames]
    cameras = get_path_from_json({**stored, "camera_type": "perspective", "camera_path": timeless})
    if not bool(cameras.camera_to_worlds.isfinite().all()):
        raise ValueError("a pose is too large for single precision")
    return cameras


def _read_crop(stored: dict[str, Any]) -> SceneCrop:
    """Reads the crop of a camera path; older ones have no rotation."""
    channels = object_of(stored.get("crop_bg_color"), "crop_bg_color")
    vectors = {name: stored.get(name) for name in ("crop_center", "crop_rot", "crop_scale")}
    vectors["crop_rot"] = stored.get("crop_rot", [0.0, 0.0, 0.0])
    vectors["crop_bg_color"] = [channels.get(name) for name in "rgb"]
    rows = np.stack([numbers_of(vector, name, (3,)) for name, vector in vectors.items()])
    numbers = torch.from_numpy(rows).float()
    if not bool(numbers.isfinite().all()):
        raise ValueError(f"its crop has the values {rows.tolist()}, which are too large")
    center, angles, size = (tuple(row) for row in numbers[:3].tolist())
    return SceneCrop(OrientedBox.from_params(center, angles, size), numbers[3] / 255)


def _frames(kind: str, cameras: Cameras) -> list[NamedCamera]:
    return [NamedCamera(f"{number:05d}", kind, cameras[number : number + 1]) for number in range(len(cameras))]
