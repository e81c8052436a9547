"""Autoencoders by name: packaged ones, exported ones, and the choice by the encoder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import encoder_identity
from genlangsplat_ns.language import named_autoencoders as named
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.language.named_autoencoders import (
    PACKAGED,
    export_autoencoder,
    find_autoencoder,
    load_autoencoder,
    named_autoencoders,
    scene_autoencoder,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(named.platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    return tmp_path / "cache" / "genlangsplat-ns" / "autoencoders"


def artifact(path: Path, encoder: str = "tiny/1", seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_autoencoder(path, Autoencoder(AutoencoderIdentity(path.stem, encoder, 12, 4, architecture="linear")))
    return path


def test_the_packaged_autoencoder_belongs_to_the_embedded_encoder() -> None:
    identity = encoder_identity("conse")
    autoencoder = load_autoencoder("auto", encoder_identity=identity)
    assert autoencoder.identity.encoder == identity
    assert autoencoder.identity.latent_dim == 16
    assert autoencoder.identity.command.startswith("python -m pretrain train-conse")
    assert find_autoencoder("conse").stat().st_size < 4_000_000
    assert list(named_autoencoders()) == list(PACKAGED) == ["conse"]


def test_an_exported_autoencoder_is_found_by_name_and_by_encoder(tmp_path: Path, cache: Path) -> None:
    assert scene_autoencoder("auto", "tiny/1", 32).identity.name == "projection-16"
    file = artifact(tmp_path / "trained.safetensors")
    assert export_autoencoder(file, "tiny-4") == cache / "tiny-4.safetensors"
    file.unlink()
    by_name, by_encoder = load_autoencoder("tiny-4"), load_autoencoder("auto", encoder_identity="tiny/1")
    assert by_name.identity == by_encoder.identity
    assert scene_autoencoder("auto", "tiny/1", 32).identity == by_name.identity
    assert scene_autoencoder("auto", "tiny/2", 32).identity.name == "projection-16"
    with pytest.raises(GenLangSplatError, match="tiny/2"):
        scene_autoencoder("tiny-4", "tiny/2", 32)


def test_the_latest_exported_autoencoder_is_taken(tmp_path: Path) -> None:
    for age, name in enumerate(["newer", "older"]):
        path = export_autoencoder(artifact(tmp_path / f"{name}.safetensors", seed=age), name)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert load_autoencoder("auto", encoder_identity="tiny/1").identity.name == "newer"


def test_a_damaged_export_is_ignored_if_the_package_has_one(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "damaged.safetensors").write_bytes(b"damaged")
    assert load_autoencoder("auto", encoder_identity=encoder_identity("conse")).identity.name == "conse-16"
    with pytest.raises(GenLangSplatError, match=r"damaged\.safetensors cannot be read"):
        load_autoencoder("auto", encoder_identity="tiny/1")


@pytest.mark.parametrize("name", ["conse", "auto", "projection"])
def test_reserved_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GenLangSplatError, match="reserved by the package"):
        export_autoencoder(artifact(tmp_path / "trained.safetensors"), name)


@pytest.mark.parametrize("name", ["", "../evil", "a b", ".hidden", "a/b"])
def test_invalid_names_are_refused(tmp_path: Path, name: str, cache: Path) -> None:
    with pytest.raises(GenLangSplatError, match="not a valid name"):
        export_autoencoder(artifact(tmp_path / "trained.safetensors"), name)
    assert not cache.exists()


def test_a_file_that_is_no_autoencoder_cannot_be_exported(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "notes.safetensors").write_bytes(b"notes")
    with pytest.raises(GenLangSplatError, match="cannot be read as safetensors"):
        export_autoencoder(tmp_path / "notes.safetensors", "notes")
    assert not cache.exists()


def test_the_error_about_another_encoder_names_both(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"tiny/1.*other-encoder/2"):
        load_autoencoder(artifact(tmp_path / "trained.safetensors"), encoder_identity="other-encoder/2")


def test_the_error_about_an_unknown_name_lists_the_names(tmp_path: Path) -> None:
    export_autoencoder(artifact(tmp_path / "trained.safetensors"), "tiny-4")
    with pytest.raises(GenLangSplatError, match=r"no autoencoder absent.*conse, tiny-4"):
        load_autoencoder("absent")


def test_the_error_of_auto_lists_the_named_autoencoders() -> None:
    with pytest.raises(GenLangSplatError, match=r"fits the encoder 'openclip/x'.*conse for"):
        load_autoencoder("auto", encoder_identity="openclip/x")
    with pytest.raises(GenLangSplatError, match="no encoder was given"):
        load_autoencoder("auto")
