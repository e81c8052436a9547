"""A start that no camera sees is refused before training, with the likely cause."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from torch import Tensor

from genlangsplat_ns.dataparser import choose_parser
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene.start_points import RandomBox, check_start_in_view
from genlangsplat_ns.scene_io.frames import SceneFrame
from tests.views.scene_files import ellipse_poses, write_pictures, write_transforms

NAMES = [f"images/{number}.png" for number in range(6)]

SEEDS = np.random.default_rng(0).uniform(-0.3, 0.3, size=(500, 3))
"""Points at the center of the ellipse of cameras."""

FAR = SEEDS + np.array([0.0, 0.0, 500.0])


def check(folder: Path, poses: np.ndarray, seeds: np.ndarray | None = SEEDS, **settings: object) -> RandomBox:
    """Checks a scene with these poses and seed points, both in the coordinates of its file."""
    write_pictures(folder, NAMES)
    config = NerfstudioDataParserConfig(data=write_transforms(folder, NAMES, poses), **settings)  # type: ignore[arg-type]
    outputs = choose_parser(config).setup().get_dataparser_outputs("train")
    frame = SceneFrame(outputs.dataparser_transform, outputs.dataparser_scale)
    points: Tensor | None = None
    if seeds is not None:
        points = (torch.from_numpy(seeds) @ frame.matrix[:3, :3].T + frame.matrix[:3, 3]).float()
    box = RandomBox.around(outputs.cameras, 10.0)
    check_start_in_view(points, box, outputs.cameras, frame)
    return box


def test_points_between_the_cameras_are_seen(tmp_path: Path) -> None:
    check(tmp_path, ellipse_poses(6))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda poses: poses * [1, -1, -1, 1], "the camera axes of OpenCV"),
        (np.linalg.inv, r"inverted poses \(world to camera\)"),
        (lambda poses: np.linalg.inv(poses * [1, -1, -1, 1]), "inverted poses and the camera axes of OpenCV"),
    ],
)
@pytest.mark.parametrize("orientation", ["up", "none"])
def test_the_wrong_convention_is_named(tmp_path: Path, wrong: object, words: str, orientation: str) -> None:
    assert callable(wrong)
    with pytest.raises(GenLangSplatError, match=f"No camera sees any of the 500 seed points.*With {words}.*OpenGL"):
        check(tmp_path, wrong(ellipse_poses(6)), orientation_method=orientation)


def test_points_of_another_frame(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="different coordinate frames"):
        check(tmp_path, ellipse_poses(6), FAR)


def test_random_points_start_in_splatfactos_cube(tmp_path: Path) -> None:
    box = check(tmp_path, ellipse_poses(6, (275.0, 107.0, 57.0)), None)
    assert (box.center.tolist(), box.side) == ([0.0, 0.0, 0.0], 10.0)


def test_random_points_start_around_cameras_that_stand_elsewhere(tmp_path: Path) -> None:
    """Metric poses far from the origin, without seed points and without nerfstudio's centering."""
    poses = ellipse_poses(6, (275.0, 107.0, 57.0))
    box = check(tmp_path, poses, None, center_method="none", orientation_method="none", auto_scale_poses=False)
    assert box.center.tolist() == pytest.approx([275.0, 107.0, 58.0], abs=0.01)
    assert box.side == pytest.approx(30, abs=2)
    points = box.sample(1000)
    assert float((points - box.center).abs().max()) <= box.side / 2


def test_few_visible_points_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check(tmp_path, ellipse_poses(6), np.concatenate([SEEDS[:2], FAR]))
    assert "see 0.4% of the 502 seed points. Check the poses" in caplog.text


def test_fisheye_lenses_see_wide(tmp_path: Path) -> None:
    write_pictures(tmp_path, NAMES)
    lens = {"camera_model": "OPENCV_FISHEYE", "fl_x": 10.0, "fl_y": 10.0}
    data = write_transforms(tmp_path, NAMES, **lens)
    outputs = choose_parser(NerfstudioDataParserConfig(data=data)).setup().get_dataparser_outputs("train")
    pose = outputs.cameras.camera_to_worlds[0]
    # 80 degrees from the axis, within the half diagonal of 20 pixels at 10 pixels a radian.
    aside = pose[:, 3] - pose[:, 2] * 0.17 + pose[:, 0] * torch.tensor([[0.99], [1.0], [1.01], [1.02]])
    frame = SceneFrame(outputs.dataparser_transform, outputs.dataparser_scale)
    check_start_in_view(aside, RandomBox.around(outputs.cameras, 10.0), outputs.cameras[:1], frame)


BACKGROUND = np.random.default_rng(1).normal(0, 8, size=(50, 3))
"""A few points all around, as in real scenes; cameras that look away from the others see some of them."""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda poses: poses * [1, -1, -1, 1], r"the camera axes of OpenCV \(y down, z forward\)"),
        (np.linalg.inv, r"inverted poses \(world to camera\)"),
    ],
)
def test_background_does_not_hide_the_wrong_convention(tmp_path: Path, wrong: object, words: str) -> None:
    assert callable(wrong)
    points = np.concatenate([SEEDS, BACKGROUND])
    check(tmp_path, ellipse_poses(6), points)
    with pytest.raises(GenLangSplatError, match=rf"With {words}, they see .*random-init True"):
        check(tmp_path, wrong(ellipse_poses(6)), points)


@pytest.mark.parametrize("usable", [0, 1, 3])
def test_too_few_distinct_points_are_refused(tmp_path: Path, usable: int) -> None:
    unusable = np.full((5, 3), np.nan)
    points = np.concatenate([SEEDS[:usable], SEEDS[:usable], unusable])
    with pytest.raises(GenLangSplatError, match=f"Found {usable} distinct seed points, expected at least 4"):
        check(tmp_path, ellipse_poses(6), points)
