"""Scores of Gaussians: decoded once, accurate, resumable, and zero where no region was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.language import gaussian_scores
from genlangsplat_ns.language.gaussian_scores import DecodedGaussians, SeenScores
from genlangsplat_ns.language.relevancy import relevancy_of_cosines
from tests.language.test_decoding import a_query, an_autoencoder


def clustered_latents(count: int = 300, levels: int = 3) -> torch.Tensor:
    """Latents clustered around a few directions, like those of objects; the first five are zero."""
    generator = torch.Generator().manual_seed(2)
    centers = torch.randn(8, 6, generator=generator)
    latents = centers[torch.randint(8, (count, levels), generator=generator)]
    latents = F.normalize(latents + 0.02 * torch.randn(latents.shape, generator=generator), dim=-1)
    latents[:5] = 0.0
    return latents * (0.2 + torch.rand(count, levels, 1, generator=generator))


def counted(decode, breaks_off_at: int | None = None):
    """A decoder that is interrupted once at one of its calls, and the list of chunk sizes of all calls."""
    rows: list[int] = []

    def decode_and_count(latents):
        rows.append(len(latents))
        if len(rows) == breaks_off_at:
            raise KeyboardInterrupt
        return decode(latents)

    return decode_and_count, rows


@torch.no_grad()
def reference_scores(latents: torch.Tensor, decode) -> torch.Tensor:
    """A simple reference implementation that scores one Gaussian and level at a time."""
    scores = torch.zeros(*latents.shape[:2], 3)
    for gaussian, levels in enumerate(latents):
        for level, latent in enumerate(levels):
            if latent.norm() > 0.01:
                scores[gaussian, level] = a_query().score(F.normalize(decode(latent[None]), dim=-1))[0]
    return scores


@pytest.mark.parametrize("architecture", ["mlp", "linear"])
def test_scores_equal_the_reference(architecture):
    latents, decode = clustered_latents(40), an_autoencoder(architecture).decode
    scores = DecodedGaussians(latents, decode).score(a_query())
    torch.testing.assert_close(scores, reference_scores(latents, decode), atol=2e-3, rtol=0)


def test_cosines_give_the_same_relevancy_and_nan_where_nothing_was_seen():
    latents, decode = clustered_latents(40), an_autoencoder("mlp").decode
    decoded, query = DecodedGaussians(latents, decode), a_query()
    cosines = decoded.cosines(torch.cat([query.positives, query.negatives]))
    assert cosines.shape[1:] == (3, 40) and cosines[..., :5].isnan().all() and not cosines[..., 5:].isnan().any()
    count = len(query.positives)
    relevancy = relevancy_of_cosines(
        *cosines[..., 5:].permute(2, 1, 0).split([count, len(cosines) - count], dim=-1), 4.0
    )
    query = replace(query, query=replace(query.query, temperature=4.0))
    torch.testing.assert_close(relevancy, decoded.score(query)[5:], atol=1e-5, rtol=0)


def test_decoding_ahead_leaves_nothing_for_the_first_text_and_can_be_stopped():
    decode, rows = counted(an_autoencoder("mlp").decode)
    gaussians = DecodedGaussians(clustered_latents(3000), decode)
    gaussians.decode(stopped=lambda: len(rows) == 2)
    assert len(rows) == 2
    gaussians.decode()
    chunks = len(rows)
    gaussians.score(a_query())
    assert len(rows) == chunks > 2


def test_zero_latents_score_zero_and_are_not_decoded():
    decode, rows = counted(an_autoencoder("mlp").decode)
    scores = DecodedGaussians(clustered_latents(), decode).score(a_query())
    assert (scores[:5] == 0).all() and (scores[5:] > 0).all()
    assert sum(rows) == 295 * 3


def test_a_scene_without_latents_scores_zero():
    scores = DecodedGaussians(torch.zeros(7, 3, 6), an_autoencoder("mlp").decode).score(a_query())
    assert scores.shape == (7, 3, 3) and not scores.any()


def test_interrupted_decoding_continues_with_the_next_chunk(monkeypatch):
    monkeypatch.setattr(gaussian_scores, "rows_at_a_time", lambda decode, device: 50)
    decode, rows = counted(an_autoencoder("mlp").decode, breaks_off_at=4)
    decoded = DecodedGaussians(clustered_latents(), decode)
    with pytest.raises(KeyboardInterrupt):
        decoded.score(a_query())
    scores = decoded.score(a_query())
    assert max(rows) == 50
    assert sum(rows) == 295 * 3 + 50, "only the chunk that was broken off is decoded again"
    assert torch.equal(scores, DecodedGaussians(clustered_latents(), an_autoencoder("mlp").decode).score(a_query()))


def test_a_second_text_decodes_nothing():
    decode, rows = counted(an_autoencoder("mlp").decode)
    decoded = DecodedGaussians(clustered_latents(), decode)
    decoded.score(a_query(1))
    seen = len(rows)
    decoded.score(a_query(2))
    assert len(rows) == seen


def splat(weights: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Relevancy of a row of pixels from compositing weights (pixels, Gaussians)."""
    seen = SeenScores(scores)
    return seen.divide((weights @ seen.channels)[None], weights.sum(dim=1)[None, :, None])[0]


def test_splatted_scores_are_divided_by_the_opacity_and_zero_in_empty_pixels():
    weights = torch.tensor([[0.5, 0.0], [0.0, 1.0], [1e-3, 0.0], [0.0, 0.0]])
    scores = torch.tensor([[0.8], [0.3]])
    torch.testing.assert_close(splat(weights, scores), torch.tensor([[0.8], [0.3], [0.0], [0.0]]))


def test_gaussians_that_were_never_seen_do_not_lower_the_score_of_their_pixel():
    weights = torch.tensor([[0.5, 0.5], [0.1, 0.9], [1e-3, 0.9]])
    relevancy = splat(weights, torch.tensor([[0.8], [0.0]]))
    torch.testing.assert_close(relevancy[:2], torch.tensor([[0.8], [0.8]]))
    assert relevancy[2] == 0, "Next to nothing of this pixel was seen."


def test_every_score_is_divided_by_its_own_seen_opacity():
    scores = torch.tensor([[0.8, 0.0, 0.6, 0.9], [0.0, 0.4, 0.2, 0.0]])
    relevancy = splat(torch.tensor([[0.3, 0.6]]), scores)
    torch.testing.assert_close(relevancy, torch.tensor([[0.8, 0.4, (0.18 + 0.12) / 0.9, 0.9]]))


def test_only_distinct_incomplete_masks_need_a_channel():
    all_seen = torch.full((5, 3), 0.5)
    assert SeenScores(all_seen).channels is all_seen
    scores = all_seen.clone()
    scores[0, :2] = 0.0
    assert SeenScores(scores).channels.shape == (5, 3 + 1)
    scores[1, 0] = 0.0
    assert SeenScores(scores).channels.shape == (5, 3 + 2)


def test_two_threads_may_decode_at_once(monkeypatch):
    monkeypatch.setattr(gaussian_scores, "rows_at_a_time", lambda decode, device: 50)
    decode = an_autoencoder("mlp").decode
    entered = []

    def decode_twice(latents):
        if not entered:
            entered.append(True)
            decoded.score(a_query())  # What another thread does in the meantime.
        return decode(latents)

    decoded = DecodedGaussians(clustered_latents(), decode_twice)
    assert torch.equal(decoded.score(a_query()), DecodedGaussians(clustered_latents(), decode).score(a_query()))
