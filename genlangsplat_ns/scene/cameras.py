"""The cameras of a query: the views of the scene, a camera path with its crop, or cameras between views."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True, eq=False)
class CameraPath:
    """A camera path that the viewer saved."""

    cameras: Cameras
    """One perspective camera per frame."""
    crop: SceneCrop | None
    """The crop that was on in the viewer; None for the whole scene."""


@dataclass(frozen=True, eq=False)
class QueryCameras:
    """The cameras of a query."""

    cameras: list[NamedCamera]
    """The cameras."""
    crop: SceneCrop | None = None
    """What they see of the scene; None for everything."""


def cameras_of(scene: LanguageScene, settings: CameraSettings) -> QueryCameras:
    """Returns the cameras that the settings select.

    Raises:
        GenLangSplatError: The path cannot be read, or there are too few views.
    """
    if settings.camera_path is not None:
        path = read_camera_path(settings.camera_path)
        return QueryCameras(list(_frames("path", path.cameras.to(scene.model.device))), path.crop)
    views = scene.views(settings.split)
    if not views:
        raise GenLangSplatError(f"The run has no views in the split {settings.split}. Choose another with --split.")
    cameras = [NamedCamera(view.name, view.split, scene.camera(view)) for view in views]
    if settings.interpolate is None:
        return QueryCameras(cameras)
    if len(cameras) < 2:
        raise GenLangSplatError(
            f"Found {len(cameras)} view in the split {settings.split}; --interpolate needs at least 2."
        )
    between = _interpolate([item.camera for item in cameras], settings.interpolate)
    return QueryCameras(list(_frames("interpolated", between)))


def _interpolate(cameras: list[Cameras], steps: int) -> Cameras:
    """Interpolates `steps` cameras between consecutive cameras, with the image size of the first."""
    intrinsics: dict[str, Any] = {
        name: torch.cat([getattr(camera, name) for camera in cameras]) for name in ("fx", "fy", "cx", "cy")
    }
    size: dict[str, Any] = {"width": int(cameras[0].width), "height": int(cameras[0].height)}
    joined = Cameras(torch.cat([camera.camera_to_worlds for camera in cameras]), **intrinsics, **size)
    path = get_interpolated_camera_path(joined, steps, order_poses=False)
    return Cameras(path.camera_to_worlds, path.fx, path.fy, path.cx, path.cy, **size).to(cameras[0].device)


def read_camera_path(path: Path) -> CameraPath:
    """Reads a camera path saved by the viewer.

    Raises:
        GenLangSplatError: The file is missing, damaged or no camera path, or its cameras are no perspective cameras.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        kind = stored.get("camera_type") or "perspective"
        if kind.lower() == "perspective":
            crop = stored.get("crop")
            return CameraPath(_path_cameras(stored), None if crop is None else _read_crop(crop))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as a camera path ({type(error).__name__}: {error}). Expected the JSON that the "
            "render tab of ns-viewer saves."
        ) from error
    raise GenLangSplatError(
        f"The cameras of the path {path} are of the type {kind}; queries are answered by perspective cameras. Choose "
        "Perspective in the render tab of ns-viewer and save the path again."
    )


def _path_cameras(stored: dict[str, Any]) -> Cameras:
    """Returns the cameras of a camera path after checking that each of them can be drawn."""
    width, height = stored["render_width"], stored["render_height"]
    if width < 1 or height < 1:
        raise ValueError(f"its images would have {width}x{height} pixels")
    if not stored["camera_path"]:
        raise ValueError("it has no camera")
    cameras = get_path_from_json(stored)
    usable = cameras.camera_to_worlds.isfinite().all() and (cameras.fx > 0).all() and cameras.fx.isfinite().all()
    if not bool(usable):
        raise ValueError("a pose or field of view is not finite or not positive")
    return cameras


def _read_crop(stored: dict[str, Any]) -> SceneCrop:
    """Reads the crop of a camera path; older ones have no rotation."""
    center, size = _three_numbers(stored["crop_center"]), _three_numbers(stored["crop_scale"])
    rotation = _three_numbers(stored.get("crop_rot", (0.0, 0.0, 0.0)))
    color = stored["crop_bg_color"]
    background = torch.tensor(_three_numbers([color[channel] for channel in "rgb"])) / 255
    return SceneCrop(OrientedBox.from_params(center, rotation, size), background)


def _three_numbers(values: Any) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    if not all(map(math.isfinite, (first, second, third))):
        raise ValueError(f"its crop has the values {values}, expected finite numbers")
    return first, second, third


def _frames(kind: str, cameras: Cameras) -> Iterator[NamedCamera]:
    for number in range(len(cameras)):
        yield NamedCamera(f"{number:05d}", kind, cameras[number : number + 1])
