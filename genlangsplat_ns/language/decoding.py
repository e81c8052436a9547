"""How latents become embeddings, and what texts are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.utils.matrix_products import onednn_matmul

Decode = Callable[[Tensor], Tensor]
"""Maps latents (count, latent_dim) to embeddings (count, embedding_dim)."""


@runtime_checkable
class Decoded(Protocol):
    """What latents decode to, in a form that vectors can be compared with."""

    def cosines(self, vectors: Tensor) -> Tensor:
        """Cosines (count, num_vectors) with unit vectors (num_vectors, embedding_dim)."""
        ...

    def compact(self) -> Decoded:
        """The same in fewer bytes, to be kept."""
        ...


@runtime_checkable
class AttendingDecoder(Protocol):
    """A decoder whose answers can be compared with vectors without making embeddings."""

    def attend(self, latents: Tensor) -> Decoded:
        """Gives what latents (count, latent_dim) decode to."""
        ...


class ComparedValues:
    """Vectors that many decoded latents share, with their products with the texts that were asked last.

    Args:
        values: The vectors.
    """

    def __init__(self, values: Float[Tensor, "count embedding_dim"]) -> None:
        self.values = values
        self._last: tuple[Tensor, Tensor] | None = None

    def products(self, vectors: Float[Tensor, "num_vectors embedding_dim"]) -> Float[Tensor, "count num_vectors"]:
        """Inner products with other vectors; computed once while the same tensor is asked for."""
        if self._last is None or self._last[0] is not vectors:
            self._last = vectors, self.values @ vectors.to(self.values).T
        return self._last[1]


@dataclass(frozen=True, eq=False)
class DecodedEmbeddings:
    """Embeddings, of unit length, in any precision."""

    embeddings: Float[Tensor, "count embedding_dim"]

    def cosines(self, vectors: Float[Tensor, "num_vectors embedding_dim"]) -> Float[Tensor, "count num_vectors"]:
        """Cosines with unit vectors."""
        return self.embeddings.float() @ vectors.to(self.embeddings.device, torch.float32).T

    def compact(self) -> DecodedEmbeddings:
        """The same in half precision."""
        return DecodedEmbeddings(self.embeddings.half())


def decode_to_compare(decode: Decode, latents: Float[Tensor, "count latent_dim"]) -> Decoded:
    """Decodes latents of any length but zero, in the cheapest form that texts can be compared with."""
    if isinstance(decode, AttendingDecoder):
        return decode.attend(latents)
    with onednn_matmul():
        return DecodedEmbeddings(F.normalize(decode(F.normalize(latents, dim=-1)), dim=-1))


def rows_at_a_time(decode: Decode, device: torch.device) -> int:
    """How many latents to decode at a time.

    The viewer breaks off a frame between two lines of Python; on two cores of a CPU these take 5 to 10 ms. Elsewhere
    they are enough to keep a GPU busy and few enough for a few tens of megabytes.
    """
    if isinstance(decode, AttendingDecoder):
        return 16_384 if device.type == "cpu" else 131_072
    return 2048 if device.type == "cpu" else 8192
