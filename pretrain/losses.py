"""The two reconstruction losses of the paper."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

LossName = Literal["squared", "l1"]
"""`squared` is equation 5 of the paper, `l1` equation 7; the paper does not say which one it used."""

SMALLEST_SQUARES = 1e-16
"""Lower bound of the product of two squared norms in the cosine, so that zero rows do not give NaN."""


def reconstruction_loss(
    reconstructions: Float[Tensor, "count embedding_dim"],
    embeddings: Float[Tensor, "count embedding_dim"],
    cosine_weight: float,
    loss: LossName = "squared",
) -> Float[Tensor, ""]:
    """Computes the mean over rows of a distance plus lambda times (1 - cosine).

    The distance is the squared L2 norm of the difference (`squared`) or its L1 norm (`l1`). Between unit vectors the
    former is 2 (1 - cosine), so lambda only scales the loss. The loss has both terms because the paper states both, and
    they differ for rows that are not normalized.
    """
    # Scalar products read each row once; torch's cosine similarity and a difference would take three times as long.
    product = torch.linalg.vecdot(reconstructions, embeddings)
    squares = torch.linalg.vecdot(reconstructions, reconstructions), torch.linalg.vecdot(embeddings, embeddings)
    cosine = product * torch.rsqrt((squares[0] * squares[1]).clamp(min=SMALLEST_SQUARES))
    if loss == "squared":
        distance = squares[0] - 2.0 * product + squares[1]
    else:
        distance = (reconstructions - embeddings).abs().sum(dim=-1)
    return (distance + cosine_weight * (1.0 - cosine)).mean()
