"""A linear autoencoder answers without decoding, and answers the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.language.decoding import LinearDecode, decoding_of
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery, relevancy_maps, score_latents


def an_autoencoder(architecture: str) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderIdentity("test", "nobody", 24, 6, architecture=architecture)).eval()


def a_query(num_texts: int = 3, width: int = 24) -> EmbeddedQuery:
    vectors = F.normalize(torch.randn(num_texts + 2, width, generator=torch.Generator().manual_seed(4)), dim=-1)
    query = TextQuery(tuple(f"thing {number}" for number in range(num_texts)), ("stuff", "matter"), temperature=3.0)
    return EmbeddedQuery(query, vectors[:num_texts], vectors[num_texts:])


@torch.no_grad()
def test_scores_in_latent_space_are_those_of_decoded_latents():
    autoencoder = an_autoencoder("linear")
    latents = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    expected = a_query().score(autoencoder.decode(latents))
    decode = decoding_of(autoencoder)
    assert isinstance(decode, LinearDecode)
    torch.testing.assert_close(score_latents(latents, decode, a_query()), expected)
    maps = relevancy_maps(latents.view(5, 5, 2, 6), decode, a_query())
    torch.testing.assert_close(maps, expected.view(5, 5, 2, 3).permute(3, 2, 0, 1))


@torch.no_grad()
def test_a_linear_decoder_is_not_asked_for_embeddings(monkeypatch):
    decode = decoding_of(an_autoencoder("linear"))
    monkeypatch.setattr(LinearDecode, "__call__", lambda *arguments: pytest.fail("an embedding was made"))
    score_latents(torch.randn(10, 6), decode, a_query())


@pytest.mark.parametrize("architecture", ["mlp", "residual", "langsplat"])
def test_other_architectures_are_decoded_by_their_network(architecture):
    autoencoder = an_autoencoder(architecture)
    assert decoding_of(autoencoder) == autoencoder.decode


@torch.no_grad()
def test_a_linear_decoder_gives_the_autoencoders_embeddings_to_whoever_wants_them():
    autoencoder = an_autoencoder("linear")
    latents = torch.randn(10, 6)
    torch.testing.assert_close(decoding_of(autoencoder)(latents), autoencoder.decode(latents))
