"""Fidelity measures and the PCA baseline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialize_from_pca
from pretrain.fidelity import (
    PcaBaseline,
    fidelity,
    fidelity_rows,
    latent_spread,
    measure_fidelity,
    measure_ranking,
    top_overlap,
)
from pretrain.report import problem_of
from pretrain.scene_files import RowSample


def rows(count: int, width: int = 12, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator) + shift, dim=-1)


def autoencoder_of(embeddings: torch.Tensor, latent_dim: int) -> Autoencoder:
    """An autoencoder that projects on principal components."""
    autoencoder = Autoencoder(AutoencoderIdentity("t", "t/1", embeddings.shape[1], latent_dim, architecture="residual"))
    initialize_from_pca(autoencoder, embeddings)
    return autoencoder.eval()


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


def test_the_spread_is_the_distance_of_latents_from_their_mean() -> None:
    latents = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert latent_spread(latents) == pytest.approx(1)
    assert latent_spread(torch.tensor([[0.6, 0.8], [0.8, 0.6]])) == pytest.approx(0.1 * 2**0.5)
    assert latent_spread(torch.ones(10, 4)) == 0.0
    noise = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    assert latent_spread(F.normalize(1 + 1e-4 * noise, dim=-1)) < 1e-3


def test_an_autoencoder_is_measured_beside_components_of_its_own_width() -> None:
    embeddings = rows(100)
    measured = measure_fidelity(Autoencoder(AutoencoderIdentity("a", "e", 12, 5)), embeddings, PcaBaseline(embeddings))
    expected = fidelity(PcaBaseline(embeddings).pca(embeddings, 5), embeddings, PcaBaseline(embeddings))
    assert measured["PCA cosine"] == pytest.approx(expected["cosine"])
    assert measured["cosine"] < measured["PCA cosine"]


def test_a_part_of_a_single_row_is_not_taken_for_a_collapse() -> None:
    embeddings = rows(9, 8)
    sample = RowSample(embeddings, torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 2], dtype=torch.uint8), ["a"] * 8 + ["b"])
    measured = fidelity_rows(autoencoder_of(embeddings, 4), sample, PcaBaseline(embeddings))
    assert list(measured) == ["held out", "subpart", "whole", "a"]
    assert all(problem_of(figures) is None for figures in measured.values())


def test_the_overlap_of_the_best_is_counted_text_by_text() -> None:
    before = torch.eye(4)
    texts = F.normalize(torch.tensor([[4.0, 3, 2, 1], [1.0, 2, 3, 4]]), dim=-1)
    after = before[[1, 0, 2, 3]]
    assert top_overlap(before, after, texts, 0.25) == 0.5
    assert top_overlap(before, after, texts, 0.5) == 1.0


def test_a_ranking_survives_the_full_width_and_not_one_number() -> None:
    regions, texts = rows(200, 8), rows(10, 8, seed=1)
    for kept in measure_ranking(autoencoder_of(regions, 8), regions, texts, PcaBaseline(regions)).values():
        assert set(kept.values()) == {1.0}
    for kept in measure_ranking(autoencoder_of(regions, 1), regions, texts, PcaBaseline(regions)).values():
        assert kept["uncompressed"] == 1.0 and kept["autoencoder"] < 0.5 and kept["PCA"] < 0.5
