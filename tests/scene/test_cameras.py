"""Queries along a camera path keep the crop of the path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.scene.cameras import SceneCrop, read_camera_path
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.query_views import query_views
from genlangsplat_ns.scene.settings import CameraSettings
from tests.scene.language_scenes import language_scene, some_camera

LEFT_HALF = {
    "crop_center": [-1.5, 0.0, 0.0],
    "crop_scale": [3.0, 4.0, 4.0],
    "crop_rot": [0.0, 0.0, 0.0],
    "crop_bg_color": {"r": 0, "g": 255, "b": 0},
}
NOWHERE = LEFT_HALF | {"crop_center": [50.0, 0.0, 0.0]}


def path_file(folder: Path, crop: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A path of two equal cameras that see both clouds, as the viewer saves it."""
    pose = np.eye(4)
    pose[2, 3] = 3.0
    frame = {"camera_to_world": pose.flatten().tolist(), "fov": 50.0, "aspect": 1.5}
    stored = {"camera_type": "perspective", "render_width": 48, "render_height": 32, "seconds": 1, "fps": 2}
    stored |= {"camera_path": [frame, frame], "crop": crop, **changes}
    (folder / "path.json").write_text(json.dumps(stored))
    return folder / "path.json"


@pytest.fixture(scope="module")
def scene() -> LanguageScene:
    return language_scene()


def ask(scene: LanguageScene, folder: Path, mode: Any, crop: dict[str, Any] | None) -> dict[str, Any]:
    cameras = CameraSettings(camera_path=path_file(folder, crop))
    return query_views(scene, TextQuery(("left", "right")), folder / "answers", cameras, mode=mode)


@pytest.mark.parametrize("mode", ["gaussian", "rendered"])
def test_only_gaussians_in_the_crop_are_drawn_and_answer(scene: LanguageScene, tmp_path: Path, mode: str) -> None:
    whole, cropped = (ask(scene, tmp_path, mode, crop) for crop in (None, LEFT_HALF))
    scores = {answer["text"]: answer["score"] for answer in cropped["results"]}
    assert scores["left"] > 0.9 > scores["right"]
    counts = [{item["text"]: item["gaussians"] for item in found["selections"]} for found in (whole, cropped)]
    assert counts[1]["left"] == counts[0]["left"] > 0 == counts[1]["right"] < counts[0]["right"]
    assert scene.model.crop_box is None
    assert ask(scene, tmp_path, mode, None) == whole, "the crop is off again"


@pytest.mark.parametrize("mode", ["gaussian", "rendered"])
def test_a_crop_without_gaussians_shows_its_background(scene: LanguageScene, tmp_path: Path, mode: str) -> None:
    found = ask(scene, tmp_path, mode, NOWHERE)
    assert all(answer["score"] == 0 and answer["selected"] == 0 for answer in found["results"])
    overlay = np.asarray(Image.open(tmp_path / "answers" / found["results"][0]["overlay"]))
    assert (overlay == overlay[0, 0]).all() and overlay[0, 0, 1] == overlay[0, 0].max()


def test_the_crop_is_off_after_an_error(scene: LanguageScene, tmp_path: Path) -> None:
    _, crop = read_camera_path(path_file(tmp_path, LEFT_HALF))
    assert isinstance(crop, SceneCrop)
    with pytest.raises(OSError, match="full"), crop.applied_to(scene.model):
        assert scene.model.render_splats(some_camera())["background"][0, 0].tolist() == [0.0, 1.0, 0.0]
        raise OSError("full")
    assert scene.model.crop_box is None
    assert scene.model.render_splats(some_camera())["background"][0, 0].tolist() != [0.0, 1.0, 0.0]


def test_the_box_turns_with_the_rotation_of_the_crop(tmp_path: Path) -> None:
    bar = {"crop_center": [0, 0, 0], "crop_scale": [4, 1, 1], "crop_bg_color": {"r": 0, "g": 0, "b": 0}}
    points = torch.tensor([[1.5, 0.0, 0.0], [0.0, 1.5, 0.0]])
    for rotation, inside in (({}, [True, False]), ({"crop_rot": [0.0, 0.0, np.pi / 2]}, [False, True])):
        _, crop = read_camera_path(path_file(tmp_path, bar | rotation))
        assert crop is not None and crop.box.within(points).tolist() == inside


@pytest.mark.parametrize("kind", ["fisheye", "equirectangular", "vr180", "orthographic"])
def test_other_cameras_are_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(GenLangSplatError, match=rf"path\.json are of the type {kind}.*Perspective"):
        read_camera_path(path_file(tmp_path, camera_type=kind))


@pytest.mark.parametrize(
    "changes",
    [
        {"camera_path": []},
        {"camera_path": [{"camera_to_world": [1.0, 2.0], "fov": 50.0}]},
        {"camera_path": [{"camera_to_world": [float("nan")] * 16, "fov": 50.0}]},
        {"camera_path": [{"camera_to_world": np.eye(4).flatten().tolist(), "fov": 0.0}]},
        {"camera_path": 3},
        {"render_width": 0},
        {"render_height": "tall"},
        {"camera_type": 3},
        {"camera_type": 0.0},
        {"crop": {}},
        {"crop": LEFT_HALF | {"crop_scale": [1.0, 2.0]}},
        {"crop": LEFT_HALF | {"crop_center": [1.0, 2.0, float("inf")]}},
    ],
)
def test_damaged_paths_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(GenLangSplatError, match=r"path\.json cannot be read as a camera path"):
        read_camera_path(path_file(tmp_path, **changes))


def test_old_paths_name_no_kind_of_camera_and_no_crop(tmp_path: Path) -> None:
    path = path_file(tmp_path)
    stored = json.loads(path.read_text())
    del stored["camera_type"], stored["crop"]
    path.write_text(json.dumps(stored))
    cameras, crop = read_camera_path(path)
    assert len(cameras) == 2 and crop is None
