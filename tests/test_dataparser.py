"""Data sets as people have them become the same views as with nerfstudio's parsers, where those can read them."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.dataparser import choose_parser
from genlangsplat_ns.scene_io.frames import SceneFrame
from tests.views.scene_files import (
    NAMES,
    colmap_scene,
    ellipse_poses,
    nerfstudio_scene,
    parse,
    write_pictures,
    write_points,
)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"orientation_method": "pca", "center_method": "focus"},
        {"orientation_method": "vertical", "auto_scale_poses": False, "scale_factor": 2.5},
        {"orientation_method": "none", "center_method": "none"},
        {"eval_mode": "interval", "eval_interval": 3, "scene_scale": 2.0},
        {"eval_mode": "all"},
    ],
)
@pytest.mark.parametrize("kind", ["nerfstudio", "colmap", "colmap binary"])
def test_the_frame_and_the_views_are_nerfstudios(
    tmp_path: Path, kind: str, settings: dict[str, Any], split: str
) -> None:
    config: Any
    if kind == "nerfstudio":
        shared = {"applied_transform": [[0, 1, 0, 0.5], [1, 0, 0, 0], [0, 0, -1, 0]], "applied_scale": 0.5, "k1": 0.1}
        config = NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path, **shared), **settings)
    else:
        data = colmap_scene(tmp_path, binary="binary" in kind)
        config = ColmapDataParserConfig(data=data, colmap_path=Path("sparse/0"), **settings)
    theirs, ours = deepcopy(config).setup().get_dataparser_outputs(split), parse(config, split)
    assert ours.image_filenames == theirs.image_filenames
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height", "distortion_params", "camera_type"):
        torch.testing.assert_close(getattr(ours.cameras, name), getattr(theirs.cameras, name), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(ours.dataparser_transform.float(), theirs.dataparser_transform, atol=2e-6, rtol=1e-5)
    assert ours.dataparser_scale == pytest.approx(theirs.dataparser_scale, rel=1e-6)
    torch.testing.assert_close(ours.scene_box.aabb, theirs.scene_box.aabb)
    # Points are only used for training.
    assert ("points3D_xyz" in ours.metadata) == (split == "train" and "points3D_xyz" in theirs.metadata)
    if "points3D_xyz" in ours.metadata:
        torch.testing.assert_close(ours.metadata["points3D_xyz"], theirs.metadata["points3D_xyz"], atol=1e-5, rtol=1e-5)
        assert torch.equal(ours.metadata["points3D_rgb"], theirs.metadata["points3D_rgb"])


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("config", [InstantNGPDataParserConfig, BlenderDataParserConfig])
def test_instant_ngp_and_blender(tmp_path: Path, config: Any, split: str) -> None:
    # With exactly one held-out view, nerfstudio's cameras have another shape than their batch.
    names = [f"images/{number:02d}" for number in range(20)]
    write_pictures(tmp_path, [f"{name}.png" for name in names])
    poses = dict(zip(names, ellipse_poses(20).tolist(), strict=True))
    for file, chosen in (("", names), ("_train", names[:16]), ("_val", names[16:18]), ("_test", names[18:])):
        frames = [{"file_path": f"./{name}", "transform_matrix": poses[name]} for name in chosen]
        document = {"camera_angle_x": 0.9, "aabb_scale": 16, "frames": frames}
        (tmp_path / f"transforms{file}.json").write_text(json.dumps(document))
    theirs, ours = config(data=tmp_path).setup().get_dataparser_outputs(split), parse(config(data=tmp_path), split)
    assert ours.image_filenames == theirs.image_filenames
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height"):
        torch.testing.assert_close(
            getattr(ours.cameras, name), getattr(theirs.cameras, name), check_dtype=False, atol=1e-6, rtol=1e-6
        )
    assert ours.dataparser_scale == theirs.dataparser_scale


@pytest.mark.parametrize("kind", ["nerfstudio", "colmap"])
def test_large_offsets_do_not_cost_precision(tmp_path: Path, kind: str) -> None:
    """At 5,000 km, single precision has steps of half a meter."""
    offset = (512_000.25, 5_400_000.75, 310.5)
    scenes = {}
    for name, center in (("near", (0.0, 0.0, 0.0)), ("far", offset)):
        poses = ellipse_poses(12, center)
        folder = tmp_path / name
        config: Any
        if kind == "nerfstudio":
            config = NerfstudioDataParserConfig(data=nerfstudio_scene(folder, poses=poses))
            config.load_3D_points = True
            write_points(folder, np.random.default_rng(0).normal(size=(20, 3)) + center)
        else:
            config = ColmapDataParserConfig(data=colmap_scene(folder, poses=poses))
        scenes[name] = parse(config)
    near, far = scenes["near"], scenes["far"]
    torch.testing.assert_close(far.cameras.camera_to_worlds, near.cameras.camera_to_worlds, atol=1e-5, rtol=0)
    torch.testing.assert_close(far.metadata["points3D_xyz"], near.metadata["points3D_xyz"], atol=1e-5, rtol=0)
    # The way back to the original coordinates is exact to a tenth of a millimeter.
    frame = SceneFrame(far.dataparser_transform, far.dataparser_scale)
    back = torch.linalg.inv(frame.matrix)
    positions = far.cameras.camera_to_worlds[:, :, 3].double() @ back[:3, :3].T + back[:3, 3]
    kept = {path.name for path in far.image_filenames}
    original = [number for number, name in enumerate(NAMES) if Path(name).name in kept]
    expected = torch.from_numpy(ellipse_poses(12, offset)[original, :3, 3])
    torch.testing.assert_close(positions, expected, atol=1e-4, rtol=0)


def test_poses_are_exported_in_original_coordinates(tmp_path: Path) -> None:
    outputs = parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path), eval_mode="all"))
    poses = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds, camera_convention="opengl")
    torch.testing.assert_close(poses, torch.from_numpy(ellipse_poses(12)[:, :3]), atol=1e-5, rtol=0)


def test_other_formats_keep_their_parser(tmp_path: Path) -> None:
    from nerfstudio.data.dataparsers.scannet_dataparser import ScanNetDataParserConfig

    config = ScanNetDataParserConfig(data=tmp_path)
    assert choose_parser(replace(config)) == config
