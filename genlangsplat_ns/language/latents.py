"""The threshold that separates latents from zeros."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

NO_LATENT = 1e-2
"""A shorter latent counts as zero. Gaussians on which no region was seen have a zero latent, and a rendered latent is
at most as long as the opacity of its pixel."""


def has_latent(latents: Float[Tensor, "*batch latent_dim"]) -> Bool[Tensor, "*batch"]:
    """Returns which latents are not zero; the others score 0 with every text."""
    return latents.norm(dim=-1) > NO_LATENT
