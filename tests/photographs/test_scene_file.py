"""The scene that is written is the one that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.photographs.scene_file import write_scene
from genlangsplat_ns.photographs.solver import SolvedLens, SolvedModel
from tests.photographs.fakes import SIZE, solved, write_photographs
from tests.views.scene_files import parse

NAMES = [f"{number:02d}.jpg" for number in range(6)]

OPENCV = SolvedLens("OPENCV", *SIZE, (40.0, 41.0, 23.0, 19.0, 0.1, 0.02, 0.003, 0.004))


def write(folder: Path, model: SolvedModel) -> NerfstudioDataParserConfig:
    write_photographs(folder / "images", NAMES)
    write_scene(folder, model, "images", {"00.jpg": "masks/00.jpg.png"})
    (folder / "masks").mkdir()
    (folder / "masks/00.jpg.png").touch()
    return NerfstudioDataParserConfig(
        data=folder,
        load_3D_points=True,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        eval_mode="all",
    )


def test_poses_and_points_see_each_other_as_in_the_model(tmp_path: Path) -> None:
    model = solved(NAMES)
    outputs = parse(write(tmp_path, model))
    points = outputs.metadata["points3D_xyz"].numpy()
    for photograph, pose in zip(model.photographs, outputs.cameras.camera_to_worlds.numpy(), strict=True):
        expected = model.positions @ photograph.rotation.T + photograph.translation
        in_camera = (points - pose[:, 3]) @ pose[:, :3]
        assert np.allclose(in_camera * [1, -1, -1], expected, atol=1e-4)
    assert np.array_equal(outputs.metadata["points3D_rgb"].numpy(), model.colors)


def test_a_shared_lens_and_masks(tmp_path: Path) -> None:
    outputs = parse(write(tmp_path, solved(NAMES, {1: OPENCV})))
    camera = outputs.cameras[3]
    assert [float(getattr(camera, name)) for name in ("fx", "fy", "cx", "cy")] == [40, 41, 23, 19]
    assert camera.distortion_params.tolist() == pytest.approx([0.1, 0.02, 0, 0, 0.003, 0.004])
    assert outputs.mask_filenames == [tmp_path / "masks/00.jpg.png", *[None] * 5]
    assert "fl_x" in json.loads((tmp_path / "transforms.json").read_text())


def test_several_lenses(tmp_path: Path) -> None:
    model = solved(
        NAMES, {1: OPENCV, 2: SolvedLens("OPENCV_FISHEYE", *SIZE, (20.0, 21.0, 24.0, 18.0, 0.1, 0.2, 0.3, 0.4))}
    )
    object.__setattr__(model.photographs[-1], "lens", 2)
    cameras = parse(write(tmp_path, model)).cameras
    kinds = cameras.camera_type.flatten().tolist()
    assert kinds == [CameraType.PERSPECTIVE.value] * 5 + [CameraType.FISHEYE.value]
    assert float(cameras[5].fx) == 20 and cameras[5].distortion_params.tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0, 0]
    )


def test_the_transform_back_to_the_coordinates_of_colmap_is_written(tmp_path: Path) -> None:
    model = solved(NAMES)
    outputs = parse(write(tmp_path, model))
    back = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds)
    centers = [-item.rotation.T @ item.translation for item in model.photographs]
    assert np.allclose(back[:, :3, 3].numpy(), centers, atol=1e-5)
