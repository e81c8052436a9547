"""The fixed random projection: reproducible, orthonormal, and stored like any other autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import read_autoencoder, save_autoencoder
from genlangsplat_ns.language.projection import orthonormal_directions, projection_autoencoder


def test_the_projection_is_the_same_on_every_machine() -> None:
    small = orthonormal_directions(12, 4)
    expected = [[0.04047336, -0.04779757], [-0.17243540, 0.12441635], [-0.22653688, -0.52175289]]
    np.testing.assert_allclose(small[:3, :2], expected, atol=1e-6)
    clip = orthonormal_directions(512, 16)
    np.testing.assert_allclose(clip[[0, -1], [0, -1]], [0.00569121, 0.00238725], atol=1e-6)
    # A weighted sum over all entries, with a different weight for each row.
    checksum = (clip * np.arange(512)[:, None]).sum(axis=0)
    np.testing.assert_allclose(checksum[[0, 5, 11, 15]], [-396.742665, 565.375175, 712.490202, 38.683267], atol=1e-4)


def test_directions_are_orthonormal_and_decoding_is_the_transpose() -> None:
    autoencoder = projection_autoencoder("tiny/1", 24, 6)
    down, up = autoencoder.encoder.weight, autoencoder.decoder.weight
    torch.testing.assert_close(down @ down.T, torch.eye(6))
    assert torch.equal(up, down.T)
    within = F.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=-1) @ down
    torch.testing.assert_close(autoencoder(within), within)


def test_similarities_are_approximately_preserved() -> None:
    vectors = F.normalize(torch.randn(2000, 512, generator=torch.Generator().manual_seed(0)), dim=-1)
    near = F.normalize(vectors + 0.2 * vectors.roll(1, dims=0), dim=-1)
    encode = projection_autoencoder("clip/1", 512).encode
    alike, unlike = (F.cosine_similarity(encode(vectors), encode(other)) for other in (near, vectors.roll(7, dims=0)))
    assert alike.mean() > 0.95 and unlike.mean().abs() < 0.02


def test_the_identity_describes_the_projection() -> None:
    autoencoder = projection_autoencoder("clip/1", 512)
    identity = autoencoder.identity
    assert (identity.name, identity.encoder, identity.architecture) == ("projection-16", "clip/1", "linear")
    assert identity.training_data == "none: a fixed random projection with seed 0"
    assert not autoencoder.training and not any(weight.requires_grad for weight in autoencoder.parameters())


def test_it_can_be_saved_and_loaded(tmp_path: Path) -> None:
    autoencoder = projection_autoencoder("tiny/1", 24, 6)
    save_autoencoder(tmp_path / "projection.safetensors", autoencoder)
    again = read_autoencoder(tmp_path / "projection.safetensors")
    assert again.identity == autoencoder.identity
    torch.testing.assert_close(again.encoder.weight, autoencoder.encoder.weight, atol=1e-3, rtol=0)


def test_more_latent_than_embedding_dimensions_are_refused() -> None:
    with pytest.raises(GenLangSplatError, match=r"more latent dimensions \(16\) than embedding dimensions \(12\)"):
        projection_autoencoder("tiny/1", 12)
