"""Data sets as people have them become the same views as with nerfstudio's parsers, where those can read them."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.dataparser import PHOTOGRAPH_SCALE, choose_parser
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.frames import SceneFrame
from genlangsplat_ns.views.dataset import ViewDataset
from tests.views.scene_files import SIZE, ellipse_poses, write_colmap, write_pictures, write_transforms

NAMES = [f"images/{number:02d}.png" for number in range(12)]


def parse(config: DataParserConfig, split: str = "train") -> Any:
    """The outputs of our parser."""
    return choose_parser(deepcopy(config)).setup().get_dataparser_outputs(split)


def nerfstudio_scene(folder: Path, names: list[str] = NAMES, **shared: Any) -> Path:
    write_pictures(folder, names)
    return write_transforms(folder, names, **shared)


def colmap_scene(folder: Path, model: str = "sparse/0", names: list[str] | None = None, **options: Any) -> Path:
    names = [Path(name).name for name in NAMES] if names is None else names
    write_pictures(folder / "images", names)
    write_colmap(folder / model, names, **options)
    return folder


# The same views as nerfstudio's parsers


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


# transforms.json


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


# COLMAP


@pytest.mark.parametrize("model", ["colmap/sparse/0", "sparse/0", "sparse", "colmap", "."])
def test_the_usual_places_of_a_model(tmp_path: Path, model: str) -> None:
    scene = colmap_scene(tmp_path, model)
    explicit = parse(ColmapDataParserConfig(data=scene, colmap_path=Path(model)))
    for config in (NerfstudioDataParserConfig(data=scene), ColmapDataParserConfig(data=scene)):
        outputs = parse(config)
        assert outputs.image_filenames == explicit.image_filenames
        assert torch.equal(outputs.cameras.camera_to_worlds, explicit.cameras.camera_to_worlds)
        assert len(outputs.metadata["points3D_xyz"]) == 20


def test_the_folder_of_missing_photographs_is_named(tmp_path: Path) -> None:
    scene = colmap_scene(tmp_path)
    (scene / "images").rename(scene / "my input")
    with pytest.raises(GenLangSplatError, match=r"12 of 12 photographs.*--images-path 'my input' \(in ns-train after"):
        parse(ColmapDataParserConfig(data=scene))


def test_a_given_model_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"looked for .* in sparse/1\. Give its folder"):
        parse(ColmapDataParserConfig(data=colmap_scene(tmp_path), colmap_path=Path("sparse/1")))


def test_settings_of_the_default_format_are_kept_for_a_colmap_scene(tmp_path: Path) -> None:
    config = choose_parser(NerfstudioDataParserConfig(data=colmap_scene(tmp_path), center_method="focus"))
    assert isinstance(config, ColmapDataParserConfig)
    assert (config.center_method, config.eval_mode) == ("focus", "interval")


def test_a_scene_without_a_model_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"sparse/0.*--colmap-path"):
        parse(ColmapDataParserConfig(data=tmp_path))


@pytest.mark.parametrize("binary", [False, True])
def test_names_with_spaces_and_folders(tmp_path: Path, binary: bool) -> None:
    # nerfstudio writes binary models with ASCII names only.
    letter = "a" if binary else "ä"
    names = ["my photo (1).png", f"cam 0/{letter} [x].png", f"cam 1/{letter} [x].png"]
    outputs = parse(ColmapDataParserConfig(data=colmap_scene(tmp_path, names=names, binary=binary), eval_mode="all"))
    assert [path.relative_to(tmp_path / "images").as_posix() for path in outputs.image_filenames] == names


def test_split_lists_beside_the_model(tmp_path: Path) -> None:
    scene = colmap_scene(tmp_path)
    (scene / "train_list.txt").write_text("# two views\n00.png\n01.png\n")
    (scene / "val_list.txt").write_text("\n")
    (scene / "test_list.txt").write_text("05.png\n\n")
    config = ColmapDataParserConfig(data=scene)
    assert [path.name for path in parse(config).image_filenames] == ["00.png", "01.png"]
    for split in ("val", "test"):
        assert [path.name for path in parse(config, split).image_filenames] == ["05.png"]


@pytest.mark.parametrize("mask", ["masks/00.png.png", "masks/00.png"])
def test_both_spellings_of_masks(tmp_path: Path, mask: str) -> None:
    scene = colmap_scene(tmp_path)
    write_pictures(scene, [mask])
    outputs = parse(ColmapDataParserConfig(data=scene, masks_path=Path("masks"), eval_mode="all"))
    assert outputs.mask_filenames[0] == scene / mask


def test_a_folder_of_masks_that_is_not_used_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = colmap_scene(tmp_path)
    write_pictures(scene, ["masks/00.png"])
    with caplog.at_level(logging.WARNING):
        assert parse(ColmapDataParserConfig(data=scene)).mask_filenames is None
    assert "--masks-path masks" in caplog.text


def test_a_photograph_without_a_mask_in_the_folder_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = colmap_scene(tmp_path)
    write_pictures(scene, [f"masks/{Path(name).name}" for name in NAMES[:11]])
    with caplog.at_level(logging.WARNING):
        outputs = parse(ColmapDataParserConfig(data=scene, masks_path=Path("masks"), eval_mode="all"))
    assert outputs.mask_filenames[-1] is None and None not in outputs.mask_filenames[:-1]
    assert "1 of 12 photographs have no mask" in caplog.text and "11.png" in caplog.text


def test_a_folder_without_any_mask_of_the_photographs_is_refused(tmp_path: Path) -> None:
    scene = colmap_scene(tmp_path)
    write_pictures(scene, ["masks/other.png"])
    with pytest.raises(GenLangSplatError, match=r"no mask in .*masks; expected for the photograph 00\.png"):
        parse(ColmapDataParserConfig(data=scene, masks_path=Path("masks")))


def test_large_photographs_outside_of_their_folder_are_scaled(tmp_path: Path) -> None:
    """A model may name photographs by absolute paths."""
    names = [str(tmp_path / "elsewhere" / name) for name in ("a.png", "b.png")]
    size = (3300, 20)
    write_pictures(tmp_path, names, size)
    write_colmap(tmp_path / "scene/sparse/0", names, size=size)
    assert parse(ColmapDataParserConfig(data=tmp_path / "scene")).metadata[PHOTOGRAPH_SCALE] == 0.25


def test_large_photographs_are_scaled_without_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("a question was asked"))
    size = (3300, 20)
    names = ["a.png", "b.png"]
    write_pictures(tmp_path / "images", names, size)
    write_colmap(tmp_path / "sparse/0", names, size=size)
    assert parse(ColmapDataParserConfig(data=tmp_path)).metadata[PHOTOGRAPH_SCALE] == 0.25
    full = parse(ColmapDataParserConfig(data=tmp_path, downscale_factor=1))
    assert full.metadata[PHOTOGRAPH_SCALE] == 1.0
    write_pictures(tmp_path / "images_4", names, (825, 5))
    stored = parse(ColmapDataParserConfig(data=tmp_path))
    assert (stored.metadata[PHOTOGRAPH_SCALE], int(stored.cameras.width[0])) == (1.0, 825)


@pytest.mark.parametrize("damage", [b"", b"\x05", b"\xff" * 40])
def test_damaged_models_are_refused(tmp_path: Path, damage: bytes) -> None:
    scene = colmap_scene(tmp_path, binary=True)
    (scene / "sparse/0/images.bin").write_bytes(damage)
    with pytest.raises(GenLangSplatError, match=r"sparse/0/images\.bin cannot be read"):
        parse(ColmapDataParserConfig(data=scene))


def test_a_lens_that_is_not_supported_is_refused_with_the_command_that_undistorts(tmp_path: Path) -> None:
    scene = colmap_scene(tmp_path, camera=("FULL_OPENCV", (30.0, 30.0, 16.0, 12.0, *[0.0] * 5, 0.2, 0.0, 0.0)))
    paths = f"--image_path {scene}/images --input_path {scene}/sparse/0 --output_path {scene}-undistorted"
    with pytest.raises(GenLangSplatError, match=f"FULL_OPENCV with k4.*`colmap image_undistorter {paths}`"):
        parse(ColmapDataParserConfig(data=scene))


# Georeferenced scenes


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


def write_points(folder: Path, positions: np.ndarray) -> None:
    """Writes seed points in double precision."""
    vertices = np.zeros(len(positions), dtype=[("x", "f8"), ("y", "f8"), ("z", "f8")])
    for column, axis in enumerate("xyz"):
        vertices[axis] = positions[:, column]
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")]).write(str(folder / "points.ply"))
    document = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps({**document, "ply_file_path": "points.ply"}))


def test_poses_are_exported_in_original_coordinates(tmp_path: Path) -> None:
    outputs = parse(NerfstudioDataParserConfig(data=nerfstudio_scene(tmp_path), eval_mode="all"))
    poses = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds, camera_convention="opengl")
    torch.testing.assert_close(poses, torch.from_numpy(ellipse_poses(12)[:, :3]), atol=1e-5, rtol=0)


def test_other_formats_keep_their_parser(tmp_path: Path) -> None:
    from nerfstudio.data.dataparsers.scannet_dataparser import ScanNetDataParserConfig

    config = ScanNetDataParserConfig(data=tmp_path)
    assert choose_parser(replace(config)) == config
