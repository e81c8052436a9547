"""The paper's language loss, and the same two distances as a metric of rendered latents."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

COSINE_FLOOR = 0.1
"""Lower bound of the product of lengths by which the loss divides the dot product.

The derivative of the cosine grows as one over the length of the rendered latent. Latents start at zero, where it would
be a million times that of a unit latent. Adam keeps such a gradient in its second moment and hardly moves for thousands
of steps. With this bound, the derivative is at most one over the bound, also at zero.
"""

METRIC_FLOOR = 1e-6
"""The same bound for the metric, where it only avoids the NaN of a latent of zero."""


def language_loss(
    rendered: Float[Tensor, "*pixels latent_dim"],
    targets: Float[Tensor, "*pixels latent_dim"],
    valid: Bool[Tensor, "*pixels"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """L1 and one minus cosine between rendered and unit target latents (paper, equation 9), to be minimized.

    Both are means over the valid pixels and levels, which have a target; zero when there are none. The cosine is exact
    where the product of both lengths is at least `COSINE_FLOOR`, and smaller below.
    """
    return _distances(rendered, targets, valid, COSINE_FLOOR)


def language_fidelity(
    rendered: Float[Tensor, "*pixels latent_dim"],
    targets: Float[Tensor, "*pixels latent_dim"],
    valid: Bool[Tensor, "*pixels"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """L1 and exact cosine between rendered and target latents, as a metric; the arguments are those of the loss."""
    l1, one_minus_cosine = _distances(rendered, targets, valid, METRIC_FLOOR)
    return l1, 1 - one_minus_cosine


def _distances(rendered: Tensor, targets: Tensor, valid: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    # Multiplying by zeros takes a third of the time of selecting the valid rows, and does not synchronize with CUDA.
    count = valid.sum().clamp_min(1)
    l1 = (rendered - targets).abs().mean(dim=-1)
    lengths = rendered.norm(dim=-1) * targets.norm(dim=-1)
    cosine = (rendered * targets).sum(dim=-1) / lengths.clamp_min(floor)
    return (l1 * valid).sum() / count, ((1 - cosine) * valid).sum() / count
