"""The two reconstruction losses of the paper, and checks and mixing of training rows."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError

LossName = Literal["squared", "l1"]
"""`squared` is equation 5 of the paper, `l1` equation 7; the paper does not say which one it used."""

SMALLEST_SQUARES = 1e-16
"""Lower bound of the product of two squared norms in the cosine, so that zero rows do not give NaN."""

LENGTH_TOLERANCE = 0.02
"""Maximum deviation of a row's norm from 1; half precision deviates by less than a tenth of it."""


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


def check_unit_rows(rows: Float[Tensor, "count width"], width: int, origin: str) -> None:
    """Checks that rows are unit vectors; `origin` names their source in error messages.

    Raises:
        GenLangSplatError: If there are no rows, the width differs, or a row is not finite or not of unit norm.
    """
    if rows.shape[0] < 1 or rows.shape[1] != width:
        raise GenLangSplatError(
            f"{origin} gave {rows.shape[0]} rows of width {rows.shape[1]}, but the autoencoder is for embeddings of "
            f"width {width}. Use embeddings of the encoder of the autoencoder."
        )
    lengths = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float32)
    # NaN fails this comparison.
    bad = ~((lengths - 1).abs() <= LENGTH_TOLERANCE)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise GenLangSplatError(
            f"{origin} gave {int(bad.sum())} bad rows of {len(rows)}; the first is row {first} of length "
            f"{float(lengths[first]):.4g}, but embeddings must have unit length. Training did not use them. Remove "
            "such rows or normalize the embeddings."
        )


def mix_rows(
    rows: Float[Tensor, "count width"], max_weight: float, noise: float, generator: torch.Generator
) -> Float[Tensor, "count width"]:
    """Mixes each unit row with another row of the batch and adds noise, to generalize from a small training set.

    The weight of the other row is uniform in [0, max_weight], `noise` is the standard deviation of the noise in each
    component, and the generator is on the device of the rows. The result has unit rows.
    """
    if max_weight > 0 and len(rows) > 1:
        # A random shift never pairs a row with itself. It stays a tensor, because reading it would synchronize the GPU.
        shift = torch.randint(1, len(rows), (1,), generator=generator, device=rows.device)
        others = rows[(torch.arange(len(rows), device=rows.device) + shift) % len(rows)]
        rows = rows.lerp(others, max_weight * torch.rand(len(rows), 1, generator=generator, device=rows.device))
    if noise > 0:
        rows = rows + noise * torch.randn(rows.shape, generator=generator, device=rows.device)
    return F.normalize(rows, dim=-1)
