"""What is done to rows between their source and the network: the check that keeps poison out, and mixing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError

LENGTH_TOLERANCE = 0.02
"""How far a row's length may be from 1; half precision stays within a tenth of it."""


def check_unit_rows(rows: Float[Tensor, "count width"], width: int, origin: str) -> None:
    """Refuses rows that would poison a training.

    Args:
        rows: What to check.
        width: Width they must have.
        origin: Where they come from, for the message.

    Raises:
        GenLangSplatError: If there is no row, the width is another, or a row is not finite or not of unit length.
    """
    if rows.shape[0] < 1 or rows.shape[1] != width:
        raise GenLangSplatError(
            f"{origin} gave {rows.shape[0]} rows of width {rows.shape[1]}, but the autoencoder is for embeddings of "
            f"width {width}. Take embeddings of the encoder the autoencoder is made for."
        )
    lengths = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float32)
    # Written so that a length which is not a number counts as wrong.
    good = (lengths - 1).abs() <= LENGTH_TOLERANCE
    if bool(good.all()):
        return
    first = int((~good).nonzero()[0])
    length = float(lengths[first])
    kind = "zero" if length == 0 else f"of length {length:.4g}" if length < float("inf") else "not finite"
    raise GenLangSplatError(
        f"{origin} gave {int((~good).sum())} bad rows of {len(rows)}; the first is row {first}, which is {kind}, but "
        "embeddings must have unit length. Nothing was trained on them. Remove such rows or normalize the embeddings."
    )


def mix_rows(
    rows: Float[Tensor, "count width"], most: float, noise: float, generator: torch.Generator
) -> Float[Tensor, "count width"]:
    """Mixes each row with another one of the batch and adds noise, which makes a small training set generalize.

    Args:
        rows: Unit rows.
        most: Greatest weight of the other row; the weight is uniform from 0 to this.
        noise: Standard deviation of the noise in each component.
        generator: Source of the randomness, on the device of the rows.

    Returns:
        Unit rows.
    """
    if most > 0 and len(rows) > 1:
        # A random shift pairs no row with itself; it stays a tensor because reading it would make a GPU wait.
        shift = torch.randint(1, len(rows), (1,), generator=generator, device=rows.device)
        others = rows[(torch.arange(len(rows), device=rows.device) + shift) % len(rows)]
        weights = most * torch.rand(len(rows), 1, generator=generator, device=rows.device)
        rows = rows.lerp(others, weights)
    if noise > 0:
        rows = rows + noise * torch.randn(rows.shape, generator=generator, device=rows.device)
    return F.normalize(rows, dim=-1)
