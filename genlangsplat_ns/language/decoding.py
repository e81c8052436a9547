"""How latents become embeddings: by a network, or by one matrix, with which nothing need be decoded at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genlangsplat_ns.language.autoencoder import Autoencoder

Decode = Callable[[Tensor], Tensor]
"""Maps latents (count, latent_dim) to embeddings (count, embedding_dim)."""


@dataclass(frozen=True, eq=False)
class LinearDecode:
    """Decoding by one matrix.

    With `matrix = basis @ triangle`, `basis` having orthonormal columns, a decoded latent is the point `triangle @
    latent` of a space of latent_dim dimensions, in which lengths and cosines are the same. Texts are projected there
    once; then cosines cost no embedding.

    Attributes:
        matrix: The weight of the decoder.
    """

    matrix: Float[Tensor, "embedding_dim latent_dim"]

    def __call__(self, latents: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Gives the unit embeddings of latents."""
        return F.normalize(latents @ self.matrix.T, dim=-1)

    def compact(self) -> tuple[Decode, Float[Tensor, "embedding_dim latent_dim"]]:
        """Gives the map to that space, and the basis on which embeddings of texts are projected."""
        basis, triangle = torch.linalg.qr(self.matrix)
        return (lambda latents: latents @ triangle.T), basis


def decoding_of(autoencoder: Autoencoder) -> Decode:
    """Gives what decodes the latents of an autoencoder: its one matrix where it has no more, else its network."""
    decoder = autoencoder.decoder
    if isinstance(decoder, nn.Linear) and decoder.bias is None:
        return LinearDecode(decoder.weight)
    return autoencoder.decode
