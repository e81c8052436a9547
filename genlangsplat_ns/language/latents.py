"""Latents as vectors: which of them say anything."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

NO_LATENT = 1e-2
"""A latent that is shorter carries no meaning. A Gaussian that no region was seen on has a latent of zero, and the
length of a rendered latent is at most the opacity of its pixel."""


def has_latent(latents: Float[Tensor, "*batch latent_dim"]) -> Bool[Tensor, "*batch"]:
    """Tells which latents carry a meaning; the others score 0 with every text."""
    return latents.norm(dim=-1) > NO_LATENT
