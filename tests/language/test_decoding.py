"""Comparing decoded latents with texts: through embeddings, or a cheaper form if the decoder has one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.language.decoding import (
    AttendingDecoder,
    Decoded,
    DecodedEmbeddings,
    decode_to_compare,
    rows_at_a_time,
)
from genlangsplat_ns.language.pixel_scores import relevancy_maps, score_latents
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery

CPU = torch.device("cpu")


def an_autoencoder(architecture: str) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderIdentity("test", "nobody", 24, 6, architecture=architecture)).eval()


def a_query(num_texts: int = 3, width: int = 24) -> EmbeddedQuery:
    vectors = F.normalize(torch.randn(num_texts + 2, width, generator=torch.Generator().manual_seed(4)), dim=-1)
    texts = tuple(f"thing {number}" for number in range(num_texts))
    query = TextQuery(texts, negatives=("stuff", "matter"), temperature=3.0)
    return EmbeddedQuery(query, vectors[:num_texts], vectors[num_texts:])


@dataclass
class LatentSpaceDecoder:
    """A linear decoder that computes cosines in latent space, without embeddings."""

    matrix: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        raise AssertionError("an embedding was made")

    def attend(self, latents: Tensor) -> Decoded:
        return _Compared(latents @ self.matrix.T)


@dataclass
class _Compared:
    sums: Tensor

    def cosines(self, vectors: Tensor) -> Tensor:
        return F.normalize(self.sums, dim=-1) @ vectors.T

    def compact(self) -> Decoded:
        return self


@pytest.mark.parametrize("architecture", ["linear", "mlp", "residual", "langsplat"])
@torch.no_grad()
def test_cosines_equal_those_of_the_unit_embeddings(architecture: str) -> None:
    autoencoder, vectors = an_autoencoder(architecture), a_query().positives
    latents = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    decoded = decode_to_compare(autoencoder.decode, latents)
    assert isinstance(decoded, DecodedEmbeddings)
    torch.testing.assert_close(decoded.cosines(vectors), autoencoder.decode(latents) @ vectors.T)


@torch.no_grad()
def test_lengths_of_latents_and_embeddings_do_not_matter() -> None:
    autoencoder, vectors = an_autoencoder("mlp"), a_query().positives
    latents = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    stretched = decode_to_compare(lambda rows: 3 * autoencoder.decode(rows), 0.05 * latents)
    torch.testing.assert_close(
        stretched.cosines(vectors), decode_to_compare(autoencoder.decode, latents).cosines(vectors)
    )


def test_half_precision_embeddings_are_compared_in_single_precision() -> None:
    vectors = a_query().positives
    embeddings = F.normalize(torch.randn(20, 24, generator=torch.Generator().manual_seed(1)), dim=-1)
    cosines = DecodedEmbeddings(embeddings.half()).cosines(vectors)
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines, embeddings @ vectors.T, atol=1e-3, rtol=0)


@torch.no_grad()
def test_an_attending_decoder_computes_no_embeddings() -> None:
    autoencoder = an_autoencoder("linear")
    decode = LatentSpaceDecoder(autoencoder.decoder.weight)
    latents = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    expected = a_query().score(autoencoder.decode(latents))
    torch.testing.assert_close(score_latents(latents, decode, a_query()), expected)
    maps = relevancy_maps(latents.view(5, 5, 2, 6), decode, a_query())
    torch.testing.assert_close(maps, expected.view(5, 5, 2, 3).permute(3, 2, 0, 1))


def test_a_decoder_of_embeddings_gets_smaller_chunks() -> None:
    attending = LatentSpaceDecoder(torch.eye(6))
    assert isinstance(attending, AttendingDecoder) and not isinstance(an_autoencoder("mlp").decode, AttendingDecoder)
    for device in (CPU, torch.device("cuda")):
        assert 0 < rows_at_a_time(an_autoencoder("mlp").decode, device) < rows_at_a_time(attending, device)
