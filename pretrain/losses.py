"""What training minimizes: the two losses that the paper states."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

LossName = Literal["squared", "l1"]
"""`squared` is the paper's equation 5, `l1` its equation 7; the paper leaves open which one it used."""

SMALLEST_SQUARES = 1e-16
"""Product of two squared lengths below which the cosine counts as if it were this, so that zero rows give no NaN."""


def reconstruction_loss(
    reconstructions: Float[Tensor, "count embedding_dim"],
    embeddings: Float[Tensor, "count embedding_dim"],
    cosine_weight: float,
    loss: LossName = "squared",
) -> Float[Tensor, ""]:
    """A distance plus lambda times (1 - cosine), both per row; the mean over the rows.

    The distance is the squared L2 norm of the difference (`squared`) or its L1 norm (`l1`). Between unit vectors the
    former is 2 (1 - cosine), so that lambda only scales the loss; both terms stand here because the paper states both,
    and because they differ as soon as one side is not normalized.
    """
    # By scalar products of rows, which read each row once; torch's cosine and a difference would take thrice the time.
    product = torch.linalg.vecdot(reconstructions, embeddings)
    squares = torch.linalg.vecdot(reconstructions, reconstructions), torch.linalg.vecdot(embeddings, embeddings)
    cosine = product * torch.rsqrt((squares[0] * squares[1]).clamp(min=SMALLEST_SQUARES))
    if loss == "squared":
        distance = squares[0] - 2.0 * product + squares[1]
    else:
        distance = (reconstructions - embeddings).abs().sum(dim=-1)
    return (distance + cosine_weight * (1.0 - cosine)).mean()
