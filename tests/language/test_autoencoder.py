"""The autoencoder and its file: exact round trips, and refused files."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import langsplat_decoder
from genlangsplat_ns.language.autoencoder import (
    ARCHITECTURES,
    Autoencoder,
    AutoencoderIdentity,
    read_autoencoder,
    read_identity,
    save_autoencoder,
)
from genlangsplat_ns.utils.files import tensors_sha256

IDENTITY = AutoencoderIdentity(
    name="tiny",
    encoder="test-encoder/1",
    embedding_dim=12,
    latent_dim=4,
    held_out_cosine=0.9,
    figures={"constant": 0.1},
)


def build(identity: AutoencoderIdentity = IDENTITY) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(identity).eval().requires_grad_(False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_autoencoder(path, build())
    return path


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_both_directions_give_unit_rows_of_any_batch_shape(architecture: str) -> None:
    autoencoder = build(replace(IDENTITY, architecture=architecture))
    latents = autoencoder.encode(torch.randn(2, 3, 12))
    embeddings = autoencoder.decode(latents)
    assert latents.shape == (2, 3, 4)
    assert embeddings.shape == (2, 3, 12)
    torch.testing.assert_close(latents.norm(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2, 3))
    assert autoencoder.encode(torch.zeros(0, 12)).shape == (0, 4)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**16))
def test_only_the_direction_matters(scale: float, seed: int) -> None:
    autoencoder = build()
    generator = torch.Generator().manual_seed(seed)
    embeddings, latents = torch.randn(5, 12, generator=generator), torch.randn(5, 4, generator=generator)
    torch.testing.assert_close(autoencoder.encode(scale * embeddings), autoencoder.encode(embeddings))
    torch.testing.assert_close(autoencoder.decode(scale * latents), autoencoder.decode(latents))


def test_the_result_of_a_row_does_not_depend_on_the_batch() -> None:
    autoencoder = build()
    embeddings = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(autoencoder(embeddings)[2:3], autoencoder(embeddings[2:3]))


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_zero_rows_stay_finite_with_their_gradients(architecture: str) -> None:
    autoencoder = build(replace(IDENTITY, architecture=architecture))
    latents = torch.zeros(2, 4, requires_grad=True)
    decoded = autoencoder.decode(latents)
    decoded.sum().backward()
    assert decoded.isfinite().all()
    assert latents.grad is not None and latents.grad.isfinite().all()
    assert autoencoder.encode(torch.zeros(2, 12)).isfinite().all()


def test_a_file_preserves_identity_and_values(file: Path) -> None:
    loaded = read_autoencoder(file)
    embeddings = torch.randn(20, 12, generator=torch.Generator().manual_seed(1))
    assert loaded.identity == read_identity(file) == IDENTITY
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    # Half precision in the file keeps about three digits.
    torch.testing.assert_close(loaded(embeddings), build()(embeddings), atol=5e-3, rtol=0)


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"no autoencoder at .*absent"):
        read_autoencoder(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.99])
def test_a_truncated_file_is_refused(file: Path, kept: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(GenLangSplatError, match="truncated or has another format"):
        read_autoencoder(file)


def test_another_kind_of_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(GenLangSplatError, match="not an autoencoder of this project"):
        read_autoencoder(path)


@pytest.mark.parametrize("identity", ["", "[]", "{}", '{"name": 1'])
def test_an_unreadable_identity_is_refused(file: Path, tmp_path: Path, identity: str) -> None:
    path = tmp_path / "damaged.safetensors"
    save_with(file, path, identity=identity)
    with pytest.raises(GenLangSplatError, match=r"identity in .*damaged"):
        read_autoencoder(path)


def test_a_single_changed_bit_is_detected(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(GenLangSplatError, match="do not match the hash"):
        read_autoencoder(file)


def save_with(file: Path, path: Path, **metadata: str) -> None:
    """Writes a copy of an autoencoder file with other metadata."""
    with safe_open(file, framework="pt") as opened:
        stored = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = {**opened.metadata(), **metadata}
    save_file(stored, path, metadata=metadata)


def test_changed_metadata_is_detected(file: Path) -> None:
    changed = json.dumps(asdict(replace(IDENTITY, held_out_cosine=0.99)))
    for metadata in ({"identity": changed}, {"format": "genlangsplat-autoencoder-2"}):
        save_with(file, file.with_name("changed.safetensors"), **metadata)
        for read in (read_autoencoder, read_identity):
            with pytest.raises(GenLangSplatError, match=r"metadata in .* do not match the hash"):
                read(file.with_name("changed.safetensors"))


def test_files_of_the_earlier_version_are_read(tmp_path: Path) -> None:
    """Their hash did not cover the metadata, and `langsplat` had no layer of width 16."""
    identity = replace(IDENTITY, architecture="langsplat")
    earlier = build(identity)
    earlier.decoder = langsplat_decoder(4, (32, 64, 128, 256, 256), 12)
    save_autoencoder(tmp_path / "new.safetensors", earlier)
    with safe_open(tmp_path / "new.safetensors", framework="pt") as opened:
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    metadata = {"format": "genlangsplat-autoencoder-2", "sha256": tensors_sha256(weights)}
    save_with(tmp_path / "new.safetensors", tmp_path / "old.safetensors", **metadata)
    embeddings = torch.randn(20, 12, generator=torch.Generator().manual_seed(1))
    loaded = read_autoencoder(tmp_path / "old.safetensors")
    torch.testing.assert_close(loaded(embeddings), earlier(embeddings), atol=5e-3, rtol=0)
    # A checkpoint of a scene holds the weights below a prefix.
    scene = torch.nn.ModuleDict({"autoencoder": build(identity)})
    scene.load_state_dict({f"autoencoder.{name}": value for name, value in earlier.state_dict().items()})
    torch.testing.assert_close(scene["autoencoder"](embeddings), earlier(embeddings))
    assert not scene["autoencoder"].training
    assert not any(parameter.requires_grad for parameter in scene.parameters())


def test_weights_that_do_not_fit_the_identity_are_refused(tmp_path: Path) -> None:
    autoencoder = build()
    autoencoder.identity = replace(IDENTITY, latent_dim=5)
    path = tmp_path / "mixed.safetensors"
    save_autoencoder(path, autoencoder)
    with pytest.raises(GenLangSplatError, match="do not fit"):
        read_autoencoder(path)


def test_unknown_architectures_and_widths_are_refused() -> None:
    with pytest.raises(GenLangSplatError, match=r"transformer.*mlp, linear"):
        Autoencoder(replace(IDENTITY, architecture="transformer"))
    with pytest.raises(GenLangSplatError, match="latent_dim=0"):
        Autoencoder(replace(IDENTITY, latent_dim=0))


def test_langsplat_s_own_autoencoder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "best_ckpt.pth"
    torch.save({"encoder.0.weight": torch.zeros(256, 512), "decoder.0.weight": torch.zeros(16, 3)}, path)
    with pytest.raises(GenLangSplatError, match=r"best_ckpt\.pth.*LangSplat's autoencoder.*one scene.*projection"):
        read_autoencoder(path)


def test_weights_of_other_models_and_pointers_are_named(tmp_path: Path) -> None:
    save_file({"text.token_embedding.weight": torch.zeros(3)}, tmp_path / "clip.safetensors")
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(GenLangSplatError, match="weights of CLIP"):
        read_autoencoder(tmp_path / "clip.safetensors")
    with pytest.raises(GenLangSplatError, match="Git LFS pointer"):
        read_autoencoder(tmp_path / "lfs.safetensors")
