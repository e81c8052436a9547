"""The cameras a scene is asked from: its own views, a camera path, or cameras between its views."""

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
    """A camera and the name of its pictures."""

    name: str
    """File name of the photograph, or the number of a frame."""
    split: str
    """train or eval for the run's own views, else path or interpolated."""
    camera: Cameras


def cameras_of(scene: LanguageScene, settings: CameraSettings) -> list[NamedCamera]:
    """The cameras that the settings name.

    Raises:
        GenLangSplatError: The path cannot be read, or there are too few views.
    """
    if settings.camera_path is not None:
        return list(_frames("path", read_camera_path(settings.camera_path).to(scene.model.device)))
    views = scene.views(settings.split)
    if not views:
        raise GenLangSplatError(f"The run has no views of the split {settings.split}. Choose another with --split.")
    own = [NamedCamera(view.name, view.split, scene.camera(view)) for view in views]
    if settings.interpolate is None:
        return own
    if len(own) < 2:
        raise GenLangSplatError(f"Found {len(own)} view of the split {settings.split}; --interpolate needs two.")
    return list(_frames("interpolated", _between([item.camera for item in own], settings.interpolate)))


def _between(cameras: list[Cameras], steps: int) -> Cameras:
    """Interpolates this many cameras from each one to the next, in the size of the first."""
    intrinsics: dict[str, Any] = {
        name: torch.cat([getattr(camera, name) for camera in cameras]) for name in ("fx", "fy", "cx", "cy")
    }
    size: dict[str, Any] = {"width": int(cameras[0].width), "height": int(cameras[0].height)}
    together = Cameras(torch.cat([camera.camera_to_worlds for camera in cameras]), **intrinsics, **size)
    path = get_interpolated_camera_path(together, steps, order_poses=False)
    return Cameras(path.camera_to_worlds, path.fx, path.fy, path.cx, path.cy, **size).to(cameras[0].device)


def read_camera_path(path: Path) -> Cameras:
    """Reads a camera path as the viewer saves it.

    Raises:
        GenLangSplatError: The file is missing, damaged or no camera path, or shows no perspective camera.
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
