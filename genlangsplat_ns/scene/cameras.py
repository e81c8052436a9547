"""The cameras of a query: the views of the scene, a camera path with its crop, or cameras between views."""

from __future__ import annotations

import json
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
            f"Found {len(cameras)} view in the split {settings.split}; --interpolate needs at least 2."
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
        stored = json.loads(path.read_text(encoding="utf-8"))
        kind = stored.get("camera_type") or "perspective"
        if kind.lower() == "perspective":
            crop = stored.get("crop")
            return _path_cameras(stored), None if crop is None else _read_crop(crop)
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
    rotation, color = stored.get("crop_rot", (0.0, 0.0, 0.0)), [stored["crop_bg_color"][name] for name in "rgb"]
    numbers = torch.tensor([stored["crop_center"], rotation, stored["crop_scale"], color], dtype=torch.float32)
    if numbers.shape != (4, 3) or not bool(numbers.isfinite().all()):
        raise ValueError(f"its crop has the values {numbers.tolist()}, expected finite numbers")
    center, angles, size = (tuple(row) for row in numbers[:3].tolist())
    return SceneCrop(OrientedBox.from_params(center, angles, size), numbers[3] / 255)


def _frames(kind: str, cameras: Cameras) -> list[NamedCamera]:
    return [NamedCamera(f"{number:05d}", kind, cameras[number : number + 1]) for number in range(len(cameras))]
