"""transforms.json as programs and people write it: what is unusable is named."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.dataparser import PHOTOGRAPH_SCALE
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.dataset import ViewDataset
from tests.views.scene_files import (
    NAMES,
    SIZE,
    ellipse_poses,
    nerfstudio_scene,
    parse,
    write_pictures,
    write_points,
    write_transforms,
)


def test_instant_ngps_file_is_read_in_the_default_format(tmp_path: Path) -> None:
    """It has an angle of view instead of a focal length, and file names without extension."""
    write_pictures(tmp_path, NAMES)
    names = [f"./{name.removesuffix('.png')}" for name in NAMES]
    write_transforms(tmp_path, names)
    document = json.loads((tmp_path / "transforms.json").read_text())
    document = {"camera_angle_x": 2 * np.arctan(0.5), "aabb_scale": 16, "frames": document["frames"]}
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    outputs = parse(NerfstudioDataParserConfig(data=tmp_path))
    assert len(outputs.image_filenames) == 11
    assert outputs.cameras.fx[0].item() == pytest.approx(SIZE[0])
    assert (int(outputs.cameras.width[0]), int(outputs.cameras.height[0])) == SIZE


def test_missing_photographs_are_named_with_what_was_tried(tmp_path: Path) -> None:
    scene = nerfstudio_scene(tmp_path)
    (scene / "images/03.png").unlink()
    with pytest.raises(GenLangSplatError, match=r"1 of 12 photographs.*images/03\.png.*Tried"):
        parse(NerfstudioDataParserConfig(data=scene))


def test_poses_that_are_not_numbers_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    poses = ellipse_poses(12)
    poses[4, 0, 3] = np.nan
    poses[7, :3, :3] = np.inf
    scene = nerfstudio_scene(tmp_path, poses=poses)
    with caplog.at_level(logging.WARNING):
        outputs = parse(NerfstudioDataParserConfig(data=scene, eval_mode="all"))
    assert len(outputs.image_filenames) == 10
    assert "04.png, 07.png" in caplog.text
    assert bool(outputs.cameras.camera_to_worlds.isfinite().all())


def test_a_scene_without_any_usable_pose_is_refused(tmp_path: Path) -> None:
    scene = nerfstudio_scene(tmp_path, poses=np.full((12, 4, 4), np.nan))
    with pytest.raises(GenLangSplatError, match="None of the 12 photographs has a usable pose"):
        parse(NerfstudioDataParserConfig(data=scene))


def test_scaled_rotations_are_normalized(tmp_path: Path) -> None:
    poses = ellipse_poses(12)
    plain = parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path / "plain", poses=poses)))
    poses[:, :3, :3] *= 2.5
    scaled = parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path / "scaled", poses=poses)))
    torch.testing.assert_close(scaled.cameras.camera_to_worlds, plain.cameras.camera_to_worlds)


@pytest.mark.parametrize("count", [1, 5])
def test_cameras_at_one_place_keep_their_scale(tmp_path: Path, count: int) -> None:
    poses = ellipse_poses(count)
    poses[:, :3, 3] = (5.0, -2.0, 1.0)
    outputs = parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path, NAMES[:count], poses=poses)))
    assert outputs.dataparser_scale == 1.0
    assert float(outputs.cameras.camera_to_worlds[:, :, 3].abs().max()) < 1e-6


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"frames": []}', '{"frames": [3]}', '{"frames": [{"a": 1}]}'])
def test_damaged_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(GenLangSplatError, match=r"transforms\.json"):
        parse(NerfstudioDataParserConfig(data=tmp_path))


def test_a_transposed_matrix_is_named(tmp_path: Path) -> None:
    poses = ellipse_poses(12).transpose(0, 2, 1)
    with pytest.raises(GenLangSplatError, match=r"last row of its transform_matrix.*transposed"):
        parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path, poses=poses)))


def test_a_sheared_pose_is_refused(tmp_path: Path) -> None:
    poses = ellipse_poses(12)
    poses[3, :3, 0] += 0.2 * poses[3, :3, 1]
    with pytest.raises(GenLangSplatError, match=r"pose of 03\.png is not a rotation.*cosine"):
        parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path, poses=poses)))


def test_mirrored_poses_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    poses = ellipse_poses(12)
    poses[:2, :3, 0] *= -1
    with caplog.at_level(logging.WARNING):
        parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path, poses=poses)))
    assert "2 of 12 poses are left-handed" in caplog.text


def test_photographs_are_sorted_by_their_folders_as_in_nerfstudio(tmp_path: Path) -> None:
    names = [f"images/{camera}/{number}.png" for camera in ("cam-2", "cam") for number in range(3)]
    config = NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path, names), eval_mode="all")
    theirs = deepcopy(config).setup().get_dataparser_outputs("train")
    assert parse(config).image_filenames == theirs.image_filenames


def test_two_frames_are_not_the_same_picture(tmp_path: Path) -> None:
    """The folders of two cameras of another computer do not exist here."""
    write_pictures(tmp_path, NAMES[:3])
    names = [f"/data/{camera}/{Path(name).name}" for camera in ("cam0", "cam1") for name in NAMES[:3]]
    with pytest.raises(GenLangSplatError, match=r"cam0/00\.png and /data/cam1/00\.png, but only .*images/00\.png"):
        parse(NerfstudioDataParserConfig(data=write_transforms(tmp_path, names)))


@pytest.mark.parametrize(
    "mask", ["images/00_mask.png", "images/00.png", "00.png", "../masks/00.png", "/a/masks/00.png"]
)
def test_a_photograph_is_no_mask(tmp_path: Path, mask: str) -> None:
    photograph = "images/00.jpg"
    write_pictures(tmp_path, [photograph])
    config = NerfstudioDataParserConfig(data=write_transforms(tmp_path, [photograph], frame={"mask_path": mask}))
    with pytest.raises(GenLangSplatError, match=r"1 of 1 listed masks do not exist: .*00"):
        ViewDataset(parse(config)).check()


def test_a_photograph_that_is_listed_as_its_mask_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path, NAMES[:1])
    scene = write_transforms(tmp_path, NAMES[:1], frame={"mask_path": NAMES[0]})
    with pytest.raises(GenLangSplatError, match=r"mask of .*00\.png is the photograph"):
        ViewDataset(parse(NerfstudioDataParserConfig(data=scene))).check()


def test_downscaled_photographs_of_two_folders_are_not_mixed_up(tmp_path: Path) -> None:
    """The downscaled copies in one folder belong to one of the two cameras."""
    names = [f"{camera}/{number}.png" for camera in ("left", "right") for number in range(3)]
    config = NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path, names), downscale_factor=2, eval_mode="all")
    half = (SIZE[0] // 2, SIZE[1] // 2)
    write_pictures(tmp_path / "images_2", [f"{number}.png" for number in range(3)], half)
    flat = parse(config)
    assert [path.relative_to(tmp_path).as_posix() for path in flat.image_filenames] == names
    assert flat.metadata[PHOTOGRAPH_SCALE] == 0.5
    write_pictures(tmp_path / "images_2", names, half)
    assert [path.relative_to(tmp_path / "images_2").as_posix() for path in parse(config).image_filenames] == names


def test_seed_points_without_a_point_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = nerfstudio_scene(tmp_path)
    write_points(scene, np.zeros((0, 3)))
    with caplog.at_level(logging.WARNING):
        outputs = parse(NerfstudioDataParserConfig(data=scene, load_3D_points=True))
    assert "points3D_xyz" not in outputs.metadata
    assert "points.ply has no points" in caplog.text


@pytest.mark.parametrize("names", ["images/00.png", [None], [3]])
def test_a_list_of_a_split_has_names(tmp_path: Path, names: Any) -> None:
    with pytest.raises(GenLangSplatError, match=r'"train_filenames" in .* is no list of file names'):
        parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path, train_filenames=names)))


@pytest.mark.parametrize("matrix", [None, [1, 2, 3], [[1, 0], [0, 1]], "text"])
def test_frames_without_a_pose_are_named(tmp_path: Path, matrix: Any) -> None:
    scene = nerfstudio_scene(tmp_path, NAMES[:2], frame={"transform_matrix": matrix})
    with pytest.raises(GenLangSplatError, match=r"frame of 00\.png"):
        parse(NerfstudioDataParserConfig(data=scene))


def test_masks_of_some_frames(tmp_path: Path) -> None:
    scene = nerfstudio_scene(tmp_path, NAMES[:3])
    write_pictures(scene, ["masks/00.png"])
    document = json.loads((scene / "transforms.json").read_text())
    document["frames"][0]["mask_path"] = "masks/00.png"
    (scene / "transforms.json").write_text(json.dumps(document))
    outputs = parse(NerfstudioDataParserConfig(data=scene))
    assert outputs.mask_filenames == [scene / "masks/00.png", None, None]


def test_existing_downscaled_photographs_are_used(tmp_path: Path) -> None:
    scene = nerfstudio_scene(tmp_path)
    write_pictures(scene, [name.replace("images", "images_2") for name in NAMES], (SIZE[0] // 2, SIZE[1] // 2))
    config = NerfstudioDataParserConfig(data=scene, downscale_factor=2)
    theirs, ours = deepcopy(config).setup().get_dataparser_outputs("train"), parse(config)
    assert ours.image_filenames == theirs.image_filenames
    for name in ("fx", "cx", "width", "height"):
        torch.testing.assert_close(getattr(ours.cameras, name), getattr(theirs.cameras, name))


def test_seed_points_of_another_computer_are_found_beside_the_file(tmp_path: Path) -> None:
    scene = nerfstudio_scene(tmp_path)
    write_points(scene, np.random.default_rng(0).normal(size=(20, 3)))
    document = json.loads((scene / "transforms.json").read_text())
    (scene / "transforms.json").write_text(json.dumps({**document, "ply_file_path": "/home/bob/scan/points.ply"}))
    outputs = parse(NerfstudioDataParserConfig(data=scene, load_3D_points=True))
    assert len(outputs.metadata["points3D_xyz"]) == 20


def test_another_encoding_is_named(tmp_path: Path) -> None:
    scene = nerfstudio_scene(tmp_path)
    text = (scene / "transforms.json").read_text()
    (scene / "transforms.json").write_text(text, encoding="utf-16")
    with pytest.raises(GenLangSplatError, match=r"transforms\.json is not in UTF-8"):
        parse(NerfstudioDataParserConfig(data=scene))
