"""The paper's language loss, and the same two distances as a measure of how well latents fit."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

COSINE_FLOOR = 0.1
"""Least product of lengths by which the loss divides the scalar product. The derivative of the cosine grows as one over
the length of what is rendered. Latents begin at zero, and there it would be a million times that of a unit latent; Adam
remembers such a step in its second moment, and hardly moves for thousands of steps. Divided by at least this, the
derivative is at most one over it, at zero and beside it."""

SHORTEST = 1e-6
"""The same for the measure, where it only keeps the cosine of nothing from being NaN."""


def language_loss(
    rendered: Float[Tensor, "*pixels latent_dim"],
    targets: Float[Tensor, "*pixels latent_dim"],
    valid: Bool[Tensor, "*pixels"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """L1 and one minus cosine between rendered and target latents (paper, equation 9), to be minimized.

    The cosine is the true one where the lengths of both multiply to `COSINE_FLOOR` or more, and less below.

    Args:
        rendered: What the Gaussians show.
        targets: Unit latents.
        valid: Which pixels and levels have a target.

    Returns:
        Both means over what is valid; zero when nothing is.
    """
    return _distances(rendered, targets, valid, COSINE_FLOOR)


def language_fidelity(
    rendered: Float[Tensor, "*pixels latent_dim"],
    targets: Float[Tensor, "*pixels latent_dim"],
    valid: Bool[Tensor, "*pixels"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """L1 and true cosine between rendered and target latents, to be read; the arguments are those of the loss."""
    l1, one_minus_cosine = _distances(rendered, targets, valid, SHORTEST)
    return l1, 1 - one_minus_cosine


def _distances(rendered: Tensor, targets: Tensor, valid: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    # Multiplying with zeros takes a third of the time of picking the valid rows, and does not stall CUDA.
    count = valid.sum().clamp_min(1)
    l1 = (rendered - targets).abs().mean(dim=-1)
    lengths = rendered.norm(dim=-1) * targets.norm(dim=-1)
    cosine = (rendered * targets).sum(dim=-1) / lengths.clamp_min(floor)
    return (l1 * valid).sum() / count, ((1 - cosine) * valid).sum() / count
