"""COLMAP scenes in the usual layouts: what is unusable is named with the option or command that helps."""

from __future__ import annotations

import logging
import shutil
import struct
from pathlib import Path

import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.dataparser import PHOTOGRAPH_SCALE, choose_parser
from genlangsplat_ns.errors import GenLangSplatError
from tests.views.scene_files import NAMES, SIZE, colmap_scene, parse, write_colmap, write_pictures


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


def test_a_name_that_no_file_can_have_is_a_missing_photograph(tmp_path: Path) -> None:
    write_colmap(tmp_path / "sparse/0", ["a" * 300 + ".png", "b.png"])
    with pytest.raises(GenLangSplatError, match="2 of 2 photographs"):
        parse(ColmapDataParserConfig(data=tmp_path))


def test_a_given_model_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"looked for .* in sparse/1\. Give its folder"):
        parse(ColmapDataParserConfig(data=colmap_scene(tmp_path), colmap_path=Path("sparse/1")))


@pytest.mark.parametrize("binary", [False, True])
def test_the_largest_of_several_models_is_read_and_the_others_are_named(
    tmp_path: Path, binary: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scene = colmap_scene(tmp_path)
    names = [Path(name).name for name in NAMES]
    shutil.rmtree(scene / "sparse/0")
    for number, count in (("0", 3), ("1", 9), ("2", 9), ("10", 4)):
        write_colmap(scene / "sparse" / number, names[:count], binary=binary)
    for config in (NerfstudioDataParserConfig(data=scene), ColmapDataParserConfig(data=scene)):
        outputs = [parse(config, split) for split in ("train", "test")]
        assert sum(len(each.image_filenames) for each in outputs) == 9
    assert caplog.text.count("The largest is used, sparse/1 with 9 photographs") == 1
    assert "not sparse/0 (3), sparse/2 (9), sparse/10 (4). To use another: --colmap-path" in caplog.text
    given = ColmapDataParserConfig(data=scene, colmap_path=Path("sparse/0"), eval_mode="all")
    assert len(parse(given).image_filenames) == 3


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


def test_a_missing_downscaled_photograph_is_named(tmp_path: Path) -> None:
    scene = colmap_scene(tmp_path)
    write_pictures(scene / "images_2", [Path(name).name for name in NAMES[:11]], (16, 12))
    with pytest.raises(GenLangSplatError, match=r"no downscaled copy of .*11\.png in .*images_2, but of others"):
        parse(ColmapDataParserConfig(data=scene, downscale_factor=2))


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


def test_binary_cameras_of_colmap_4(tmp_path: Path) -> None:
    """Its files have further camera models, and rigs and frames beside them, which repeat the poses."""
    scene = colmap_scene(tmp_path, binary=True)
    (scene / "sparse/0/cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 15, *SIZE, 30.0, 31.0, 16.0, 12.0))
    for name in ("rigs.bin", "frames.bin"):
        (scene / "sparse/0" / name).write_bytes(struct.pack("<Q", 0))
    cameras = parse(ColmapDataParserConfig(data=scene)).cameras
    assert set(cameras.camera_type.flatten().tolist()) == {CameraType.FISHEYE.value}
    assert float(cameras.fx[0]) == 30 and float(cameras.fy[0]) == 31


@pytest.mark.parametrize(("kind", "terms"), [(13, 5), (16, 6)])
def test_models_that_cannot_be_undistorted_are_named(tmp_path: Path, kind: int, terms: int) -> None:
    scene = colmap_scene(tmp_path, binary=True)
    values = struct.pack(f"<QiiQQ{terms}d", 1, 1, kind, *SIZE, *range(1, terms + 1))
    (scene / "sparse/0/cameras.bin").write_bytes(values)
    with pytest.raises(GenLangSplatError, match=r"the camera model (DIVISION|EUCM) .*`colmap image_undistorter"):
        parse(ColmapDataParserConfig(data=scene))


def test_camera_models_of_the_future_are_refused(tmp_path: Path) -> None:
    scene = colmap_scene(tmp_path, binary=True)
    (scene / "sparse/0/cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 99, *SIZE, 1.0, 1.0, 1.0, 1.0))
    with pytest.raises(GenLangSplatError, match="a camera model with the number 99"):
        parse(ColmapDataParserConfig(data=scene))


@pytest.mark.parametrize("form", ["text", "binary"])
def test_a_model_with_rigs_that_colmap_4_wrote(tmp_path: Path, form: str) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason='needs pycolmap: pip install -e ".[photos]"')
    options = pycolmap.SyntheticDatasetOptions()
    options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 2, 3, 30
    options.camera_width, options.camera_height, options.camera_params = 64, 48, [60.0, 32.0, 24.0, 0.05]
    model = pycolmap.synthesize_dataset(options)
    names = {number: f"cam {image.camera_id}/ä {number}.png" for number, image in model.images.items()}
    for number, name in names.items():
        model.image(number).name = name
    write_pictures(tmp_path / "images", list(names.values()), (64, 48))
    (tmp_path / "sparse/0").mkdir(parents=True)
    (model.write_text if form == "text" else model.write_binary)(tmp_path / "sparse/0")
    assert {"rigs", "frames"} <= {path.stem for path in (tmp_path / "sparse/0").iterdir()}
    config = ColmapDataParserConfig(
        data=tmp_path,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        assume_colmap_world_coordinate_convention=False,
        eval_mode="all",
    )
    outputs = parse(config)
    assert len(outputs.metadata["points3D_xyz"]) == 30
    found = {
        path.relative_to(tmp_path / "images").as_posix(): index for index, path in enumerate(outputs.image_filenames)
    }
    for number, name in names.items():
        expected = model.image(number).projection_center()
        assert outputs.cameras.camera_to_worlds[found[name], :, 3].numpy() == pytest.approx(expected, abs=1e-5)
