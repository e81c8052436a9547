"""The cameras of a query: the views of the scene, a camera path, or cameras interpolated between views."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.camera_paths import get_interpolated_camera_path, get_path_from_json
from nerfstudio.cameras.cameras import Cameras

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.settings import CameraSettings


@dataclass(frozen=True)
class NamedCamera:
    """A camera and the name of its images."""

    name: str
    """File name of the photograph, or the number of a frame."""
    split: str
    """train or eval for the views of the run, otherwise path or interpolated."""
    camera: Cameras


def cameras_of(scene: LanguageScene, settings: CameraSettings) -> list[NamedCamera]:
    """Returns the cameras that the settings select.

    Raises:
        GenLangSplatError: The path cannot be read, or there are too few views.
    """
    if settings.camera_path is not None:
        return list(_frames("path", read_camera_path(settings.camera_path).to(scene.model.device)))
    views = scene.views(settings.split)
    if not views:
        raise GenLangSplatError(f"The run has no views in the split {settings.split}. Choose another with --split.")
    cameras = [NamedCamera(view.name, view.split, scene.camera(view)) for view in views]
    if settings.interpolate is None:
        return cameras
    if len(cameras) < 2:
        raise GenLangSplatError(
            f"Found {len(cameras)} view in the split {settings.split}; --interpolate needs at least 2."
        )
    return list(_frames("interpolated", _interpolate([item.camera for item in cameras], settings.interpolate)))


def _interpolate(cameras: list[Cameras], steps: int) -> Cameras:
    """Interpolates `steps` cameras between consecutive cameras, with the image size of the first."""
    intrinsics: dict[str, Any] = {
        name: torch.cat([getattr(camera, name) for camera in cameras]) for name in ("fx", "fy", "cx", "cy")
    }
    size: dict[str, Any] = {"width": int(cameras[0].width), "height": int(cameras[0].height)}
    joined = Cameras(torch.cat([camera.camera_to_worlds for camera in cameras]), **intrinsics, **size)
    path = get_interpolated_camera_path(joined, steps, order_poses=False)
    return Cameras(path.camera_to_worlds, path.fx, path.fy, path.cx, path.cy, **size).to(cameras[0].device)


def read_camera_path(path: Path) -> Cameras:
    """Reads a camera path saved by the viewer.

    Raises:
        GenLangSplatError: The file is missing, damaged or no camera path, or has no perspective camera.
    """
    try:
        return get_path_from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as a camera path ({type(error).__name__}: {error}). Expected the JSON that the "
            "render tab of ns-viewer saves."
        ) from error


def _frames(kind: str, cameras: Cameras) -> Iterator[NamedCamera]:
    for number in range(len(cameras)):
        yield NamedCamera(f"{number:05d}", kind, cameras[number : number + 1])
