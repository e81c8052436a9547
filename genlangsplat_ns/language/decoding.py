"""Decodes latents into a form that can be compared with text embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.utils.matrix_products import onednn_matmul

Decode = Callable[[Tensor], Tensor]
"""Maps latents (count, latent_dim) to embeddings (count, embedding_dim)."""

NO_LATENT = 1e-2
"""A shorter latent counts as zero. Gaussians on which no region was seen have a zero latent, and a rendered latent is
at most as long as the opacity of its pixel."""


def has_latent(latents: Float[Tensor, "*batch latent_dim"]) -> Bool[Tensor, "*batch"]:
    """Returns which latents are not zero; the others score 0 with every text."""
    lengths: Tensor = latents.norm(dim=-1)
    return lengths > NO_LATENT


@runtime_checkable
class Decoded(Protocol):
    """Decoded latents in a form that can be compared with vectors."""

    def cosines(self, vectors: Tensor) -> Tensor:
        """Computes cosines (count, num_vectors) with unit vectors (num_vectors, embedding_dim)."""
        ...

    def compact(self) -> Decoded:
        """Returns a copy that takes less memory, for caching."""
        ...


@runtime_checkable
class AttendingDecoder(Protocol):
    """A decoder whose results can be compared with vectors without computing embeddings."""

    def attend(self, latents: Tensor) -> Decoded:
        """Decodes latents (count, latent_dim)."""
        ...


class ComparedValues:
    """Vectors that many decoded latents share, with cached inner products with the last queried texts."""

    def __init__(self, values: Float[Tensor, "count embedding_dim"]) -> None:
        self.values = values
        self._last: tuple[Tensor, Tensor] | None = None

    def products(self, vectors: Float[Tensor, "num_vectors embedding_dim"]) -> Float[Tensor, "count num_vectors"]:
        """Computes inner products with other vectors; repeated calls with the same tensor are cached."""
        if self._last is None or self._last[0] is not vectors:
            self._last = vectors, self.values @ vectors.to(self.values).T
        return self._last[1]


@dataclass(frozen=True, eq=False)
class DecodedEmbeddings:
    """Unit embeddings in any precision."""

    embeddings: Float[Tensor, "count embedding_dim"]

    def cosines(self, vectors: Float[Tensor, "num_vectors embedding_dim"]) -> Float[Tensor, "count num_vectors"]:
        """Computes cosines with unit vectors."""
        return self.embeddings.float() @ vectors.to(self.embeddings.device, torch.float32).T

    def compact(self) -> DecodedEmbeddings:
        """Returns the embeddings in half precision."""
        return DecodedEmbeddings(self.embeddings.half())


def decode_to_compare(decode: Decode, latents: Float[Tensor, "count latent_dim"]) -> Decoded:
    """Decodes nonzero latents of any length into the cheapest form that can be compared with texts."""
    if isinstance(decode, AttendingDecoder):
        return decode.attend(latents)
    with onednn_matmul():
        return DecodedEmbeddings(F.normalize(decode(F.normalize(latents, dim=-1)), dim=-1))


def rows_at_a_time(decode: Decode, device: torch.device) -> int:
    """Returns how many latents to decode at a time.

    The viewer can only interrupt a frame between two lines of Python, so a chunk takes 5 to 10 ms on two CPU cores. On
    a GPU a chunk is large enough for full utilization and takes a few tens of megabytes.
    """
    if isinstance(decode, AttendingDecoder):
        return 16_384 if device.type == "cpu" else 131_072
    return 2048 if device.type == "cpu" else 8192
