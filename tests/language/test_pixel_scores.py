"""Pixels are scored in chunks; empty pixels are skipped."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.language.answers import answer_texts
from genlangsplat_ns.language.decoding import NO_LATENT
from genlangsplat_ns.language.pixel_scores import relevancy_maps, relevancy_of_zero, score_latents
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery, embed_query
from tests.language.test_query import HashEncoder
from tests.language.test_relevancy import relevancy

LATENT_DIM, EMBEDDING_DIM = 4, 6


class LinearDecoder:
    """A decoder without normalization that counts its input rows."""

    def __init__(self):
        self.weight = torch.randn(LATENT_DIM, EMBEDDING_DIM, generator=torch.Generator().manual_seed(5))
        self.rows = 0

    def __call__(self, latents):
        self.rows += len(latents)
        torch.testing.assert_close(latents.norm(dim=-1), torch.ones(len(latents)))
        return 3.0 * latents @ self.weight


def reference_maps(latents, decode, query: EmbeddedQuery):
    """A simple reference implementation of `relevancy_maps`."""
    height, width, levels, _ = latents.shape
    maps = torch.zeros(len(query.query.texts), levels, height, width)
    for y in range(height):
        for x in range(width):
            for level in range(levels):
                latent = latents[y, x, level]
                if latent.norm() <= NO_LATENT:
                    continue
                embedding = decode((latent / latent.norm())[None])[0]
                embedding = embedding / embedding.norm()
                scores = relevancy(embedding, query.positives, query.negatives, query.query.temperature)
                maps[:, level, y, x] = scores
    return maps


@pytest.fixture
def embedded() -> EmbeddedQuery:
    return embed_query(TextQuery(("a cat", "a rocket"), temperature=4.0), HashEncoder())


def some_latents(height=5, width=7, levels=3):
    latents = torch.randn(height, width, levels, LATENT_DIM, generator=torch.Generator().manual_seed(1))
    latents *= 0.1 + torch.rand(height, width, 1, 1, generator=torch.Generator().manual_seed(2))
    latents[0] = 0.0
    latents[1, :, 2] = 1e-4
    return latents


@pytest.mark.parametrize("chunk", [1, 8, 10_000])
def test_maps_equal_the_reference_for_any_chunk_size(embedded, monkeypatch, chunk):
    latents = some_latents()
    monkeypatch.setattr(score_latents, "__defaults__", (chunk,))
    maps = relevancy_maps(latents, LinearDecoder(), embedded)
    torch.testing.assert_close(maps, reference_maps(latents, LinearDecoder(), embedded))


def test_empty_pixels_score_zero_and_are_never_decoded(embedded):
    decoder = LinearDecoder()
    maps = relevancy_maps(some_latents(), decoder, embedded)
    assert (maps[:, :, 0] == 0).all() and (maps[:, 2, 1] == 0).all()
    assert decoder.rows == 5 * 7 * 3 - 7 * 3 - 7
    assert (maps[:, :2, 1:] > 0).all() and (maps[:, 2, 2:] > 0).all()


def test_an_empty_view_scores_zero(embedded):
    maps = relevancy_maps(torch.zeros(4, 5, 3, LATENT_DIM), LinearDecoder(), embedded)
    answers = answer_texts(maps, embedded.query)
    assert [answer.score for answer in answers] == [0.0, 0.0]
    assert not any(answer.mask.any() for answer in answers)


def test_the_length_of_a_latent_does_not_matter(embedded):
    latents = torch.randn(4, 5, 3, LATENT_DIM, generator=torch.Generator().manual_seed(1))
    decode = LinearDecoder()
    torch.testing.assert_close(
        relevancy_maps(latents, decode, embedded), relevancy_maps(0.1 * latents, decode, embedded)
    )


def test_a_zero_latent_scores_like_its_embedding(embedded):
    latents = some_latents()
    assert relevancy_of_zero(latents, lambda rows: rows @ torch.ones(LATENT_DIM, EMBEDDING_DIM), embedded).tolist() == [
        pytest.approx(0.5)
    ] * len(embedded.query.texts)
    mean = embedded.positives[:1] + 0.1
    expected = embedded.score(F.normalize(mean, dim=-1))[0]
    torch.testing.assert_close(relevancy_of_zero(latents, lambda rows: mean.expand(len(rows), -1), embedded), expected)
