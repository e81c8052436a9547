"""Invalid data: reported before expensive work, without leaving files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genlangsplat_ns.datamanager import _scale_to
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import FeatureStore, ViewFeatures
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.rasterization import library
from tests.end_to_end.conftest import copy_scene, make_config, make_trainer


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
    monkeypatch.setattr(library, "_library_path", lambda instruction_set: None)
    scene = copy_scene(tiny_scene, tmp_path)
    refuse(scene, tmp_path / "outputs", "not built")
    assert not (scene / "language_features").exists()
