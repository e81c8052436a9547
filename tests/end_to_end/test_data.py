"""Invalid data: reported before expensive work, without leaving files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from genlangsplat_ns.datamanager import _scale_to
from genlangsplat_ns.dataparser import SeedPointNerfstudio
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import FeatureStore, ViewFeatures
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.rasterization import library
from genlangsplat_ns.scene.extraction import open_views
from genlangsplat_ns.scene_io.runs import read_config
from genlangsplat_ns.views.settings import ParserSettings, ViewSettings
from tests.end_to_end.conftest import copy_scene, make_config, make_trainer, train
from tests.end_to_end.quick_extraction import SETTINGS, rewrite
from tests.views.scene_files import write_colmap


def refuse(data: Path, output: Path, message: str) -> None:
    """Checks that a run on the data fails with a message and leaves no file."""
    with pytest.raises(GenLangSplatError, match=message):
        make_trainer(make_config(data, output))
    assert not output.exists()


def test_a_missing_folder(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere", tmp_path / "outputs", "does not exist")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", tmp_path / "outputs", "is empty")


def test_a_folder_without_cameras(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    refuse(tmp_path / "photos", tmp_path / "outputs", r"no transforms\.json")


@pytest.mark.parametrize("number", ["0001", "0004"])
def test_listed_images_that_are_absent(tiny_scene: Path, tmp_path: Path, number: str) -> None:
    scene = copy_scene(tiny_scene, tmp_path)
    (scene / "images" / f"{number}.png").unlink()
    refuse(scene, tmp_path / "outputs", f"{number}.png")


def test_invalid_seed_points(tiny_scene: Path, tmp_path: Path) -> None:
    scene = copy_scene(tiny_scene, tmp_path)
    (scene / "sparse_pc.ply").write_text("nothing")
    refuse(scene, tmp_path / "outputs", "sparse_pc.ply")


def test_an_autoencoder_of_another_encoder(tiny_scene: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_autoencoder(other, Autoencoder(AutoencoderIdentity("other", "openclip/ViT-B-16", 512, 16)))
    with pytest.raises(GenLangSplatError, match=r"openclip/ViT-B-16.*conse"):
        make_trainer(make_config(tiny_scene, tmp_path / "outputs", autoencoder=str(other)))


@pytest.mark.parametrize(("count", "held_out"), [(1, 0), (3, 0), (10, 1)])
def test_few_photographs(tiny_scene: Path, tmp_path: Path, count: int, held_out: int) -> None:
    """Without held-out views there is nothing to measure; the deviation of one view is not a number."""
    scene = copy_scene(tiny_scene, tmp_path)
    frames = json.loads((scene / "transforms.json").read_text())["frames"][:count]
    rewrite(scene, frames=frames, train_filenames=None, val_filenames=None, test_filenames=None)
    trainer = train(make_config(scene, tmp_path / "outputs", rgb_steps=10))
    metrics = trainer.pipeline.get_average_eval_image_metrics(get_std=True)
    if held_out == 0:
        assert metrics == {"held_out_views": 0}
    else:
        assert {"psnr", "lang_cosine"} <= set(metrics)
        json.dumps(metrics, allow_nan=False)


@pytest.mark.usefixtures("quick_encoder")
def test_inrias_layout_without_options(tiny_scene: Path, tmp_path: Path) -> None:
    """`images` and `sparse/0` are read by training and by extraction, with the same views."""
    scene = tmp_path / "scene"
    names = [f"{number:04d}.png" for number in range(1, 11)]
    shutil.copytree(tiny_scene / "images", scene / "images")
    width, height = 128, 96
    write_colmap(scene / "sparse/0", names, ("PINHOLE", (110.0, 110.0, 64.0, 48.0)), (width, height))
    trainer = make_trainer(make_config(scene, tmp_path / "outputs"))
    stored = read_config(trainer.base_dir / "config.yml").pipeline.datamanager.dataparser
    assert stored.colmap_path == Path("sparse/0")
    for parser in (ParserSettings(), ParserSettings(colmap_path=Path("sparse/0"), eval_interval=8)):
        views = open_views(ViewSettings(data=scene, parser=parser), SETTINGS)
        for split in ("train", "eval"):
            trained = trainer.pipeline.datamanager.dataset(split)
            assert views.dataset(split).image_filenames == trained.image_filenames  # type: ignore[arg-type]
    assert views.config.dataparser.eval_interval == 8  # type: ignore[attr-defined]


def test_settings_that_a_format_does_not_have_are_named(tiny_scene: Path) -> None:
    with pytest.raises(GenLangSplatError, match="--colmap-path"):
        open_views(ViewSettings(data=tiny_scene, parser=ParserSettings(colmap_path=Path("sparse"))), SETTINGS)


def test_whatever_a_parser_raises_becomes_one_sentence(tiny_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(parser: object) -> None:
        raise EOFError("EOF when reading a line")

    monkeypatch.setattr(SeedPointNerfstudio, "read", fail)
    with pytest.raises(GenLangSplatError, match=r"NerfstudioDataParserConfig.*EOFError"):
        open_views(ViewSettings(data=tiny_scene), SETTINGS)


@pytest.mark.parametrize("model", ["EQUIRECTANGULAR", "ORTHOPHOTO"])
def test_lenses_are_refused_before_anything_is_extracted(
    tiny_scene: Path, tmp_path: Path, no_models: None, model: str
) -> None:
    scene = copy_scene(tiny_scene, tmp_path)
    rewrite(scene, camera_model=model)
    refuse(scene, tmp_path / "outputs", model)
    assert not (scene / "language_features").exists()


def test_inverted_poses_are_refused_before_anything_is_extracted(
    tiny_scene: Path, tmp_path: Path, no_models: None
) -> None:
    scene = copy_scene(tiny_scene, tmp_path)
    frames = json.loads((scene / "transforms.json").read_text())["frames"]
    for frame in frames:
        frame["transform_matrix"] = np.linalg.inv(frame["transform_matrix"]).tolist()
    rewrite(scene, frames=frames)
    refuse(scene, tmp_path / "outputs", "No camera sees any|see only")


@pytest.mark.parametrize("size", [(960, 540), (779, 520), (1, 1), (481, 33), (4032, 3024), (1000, 999)])
def test_images_and_cameras_are_scaled_to_the_same_size(size: tuple[int, int]) -> None:
    """Both roundings of nerfstudio (double for the image, single for the camera) agree and respect the limit."""
    for cap in (480, 333, 7):
        scale = _scale_to(max(size), cap)
        image = [int(side * scale) for side in size]
        camera = [int((torch.tensor(side) * torch.tensor([scale])).to(torch.int64)) for side in size]
        assert image == camera
        assert max(image) <= cap
        assert scale == 1.0 or max(image) >= cap - 2


def test_views_without_any_region_are_refused(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(make_config(tiny_scene, tmp_path, language_start_step=0))
    load = FeatureStore.load

    def empty(store: FeatureStore, key: str) -> ViewFeatures:
        return ViewFeatures(torch.full_like(load(store, key).regions, -1), torch.zeros(0, 384))

    monkeypatch.setattr(FeatureStore, "load", empty)
    with pytest.raises(GenLangSplatError, match="no region on any Gaussian"):
        trainer.train()


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA the kernels are not needed")
def test_missing_kernels_are_reported_before_features_are_extracted(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "library_path", lambda instruction_set: None)
    scene = copy_scene(tiny_scene, tmp_path)
    refuse(scene, tmp_path / "outputs", "not built")
    assert not (scene / "language_features").exists()
