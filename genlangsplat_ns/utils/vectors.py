"""Normalization of vectors of which some have no direction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SHORTEST = 1e-8
"""A vector shorter than this has no direction."""


def unit_or_zero(vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """Scales vectors to length 1, and vectors without a direction to zero."""
    return torch.where(vectors.norm(dim=-1, keepdim=True) > SHORTEST, F.normalize(vectors, dim=-1), 0.0)
