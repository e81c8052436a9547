"""Checks and augmentation of the embeddings in a training batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError

LENGTH_TOLERANCE = 0.02
"""Maximum deviation of a row's norm from 1; half precision deviates by less than a tenth of it."""


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
    good = (lengths - 1).abs() <= LENGTH_TOLERANCE
    if bool(good.all()):
        return
    first = int((~good).nonzero()[0])
    length = float(lengths[first])
    kind = "zero" if length == 0 else f"of length {length:.4g}" if length < float("inf") else "not finite"
    raise GenLangSplatError(
        f"{origin} gave {int((~good).sum())} bad rows of {len(rows)}; the first is row {first}, which is {kind}, but "
        "embeddings must have unit length. Training did not use them. Remove such rows or normalize the embeddings."
    )


def mix_rows(
    rows: Float[Tensor, "count width"], max_weight: float, noise: float, generator: torch.Generator
) -> Float[Tensor, "count width"]:
    """Mixes each row with another row of the batch and adds noise, to generalize from a small training set.

    Args:
        rows: Unit vectors, as in the result.
        max_weight: Maximum weight of the other row; the weight is uniform in [0, max_weight].
        noise: Standard deviation of the noise in each component.
        generator: Random generator on the device of the rows.
    """
    if max_weight > 0 and len(rows) > 1:
        # A random shift never pairs a row with itself. It stays a tensor, because reading it would synchronize the GPU.
        shift = torch.randint(1, len(rows), (1,), generator=generator, device=rows.device)
        others = rows[(torch.arange(len(rows), device=rows.device) + shift) % len(rows)]
        weights = max_weight * torch.rand(len(rows), 1, generator=generator, device=rows.device)
        rows = rows.lerp(others, weights)
    if noise > 0:
        rows = rows + noise * torch.randn(rows.shape, generator=generator, device=rows.device)
    return F.normalize(rows, dim=-1)
