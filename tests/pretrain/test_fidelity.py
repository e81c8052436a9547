"""Fidelity measures and the PCA baseline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from pretrain.fidelity import PcaBaseline, fidelity, latent_usage, measure_fidelity


def rows(count: int, width: int = 12, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator) + shift, dim=-1)


def test_the_error_of_unit_vectors_follows_from_their_cosine() -> None:
    """The paper's error of 3e-4 and cosine above 0.93 at width 512 are equivalent."""
    embeddings, others = rows(50), rows(50, seed=1)
    kept = fidelity(others, embeddings, PcaBaseline(embeddings))
    assert kept["mse"] == pytest.approx(2 * (1 - kept["cosine"]) / 12, rel=1e-5)


def test_the_mean_scores_a_high_cosine_and_no_centered_one() -> None:
    embeddings = rows(400, shift=1.5)
    pca_baseline = PcaBaseline(embeddings)
    kept = fidelity(F.normalize(pca_baseline.mean[None], dim=-1).expand_as(embeddings), embeddings, pca_baseline)
    assert kept["cosine"] > 0.8
    assert abs(kept["centered cosine"]) < 0.15


def test_principal_components_agree_with_the_singular_vectors_written_out() -> None:
    embeddings, others = rows(200, shift=0.5), rows(20, seed=2, shift=0.5)
    mean = embeddings.numpy().mean(axis=0)
    directions = np.linalg.svd(embeddings.numpy() - mean, full_matrices=False)[2][:3]
    expected = (others.numpy() - mean) @ directions.T @ directions + mean
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(PcaBaseline(embeddings).pca(others, 3).numpy(), expected, atol=1e-5)
    torch.testing.assert_close(PcaBaseline(embeddings).pca(others, 12), others, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("used", "expected"), [(1, 1 / 8), (4, 4 / 8), (8, 1.0)])
def test_usage_is_the_share_of_dimensions_that_vary(used: int, expected: float) -> None:
    latents = torch.zeros(4000, 8)
    latents[:, :used] = torch.randn(4000, used, generator=torch.Generator().manual_seed(0))
    assert latent_usage(latents) == pytest.approx(expected, rel=0.02)


def test_latents_that_never_vary_use_nothing() -> None:
    assert latent_usage(torch.ones(10, 4)) == 0.0


def test_an_autoencoder_is_measured_beside_components_of_its_own_width() -> None:
    embeddings = rows(100)
    measured = measure_fidelity(Autoencoder(AutoencoderIdentity("a", "e", 12, 5)), embeddings, PcaBaseline(embeddings))
    expected = fidelity(PcaBaseline(embeddings).pca(embeddings, 5), embeddings, PcaBaseline(embeddings))
    assert measured["PCA cosine"] == pytest.approx(expected["cosine"])
    assert measured["cosine"] < measured["PCA cosine"]
