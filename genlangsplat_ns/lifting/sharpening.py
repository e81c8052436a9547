"""Sharpened latents: from the aggregate of all views towards the least-squares fit of their renders."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.lifting.average import LiftedLatents, RegionView, Trust, region_weights_of, unit_or_zero


@torch.no_grad()
def sharpen(
    views: Iterable[RegionView],
    lifted: LiftedLatents,
    trust: Trust | None,
    steps: int,
    damping: float,
) -> LiftedLatents:
    """Moves the aggregate towards the latents whose renders fit the views best in the sense of least squares.

    Solves `(W^T R W + damping M) x = W^T R y + damping M a` by conjugate gradients from the aggregate `a`, where W
    composites all views, y are their targets, R is the trust in each pixel's region and `M = W^T R 1`. M bounds the
    diagonal of `W^T R W`, because the weights of a pixel add up to at most 1, and preconditions. Levels are solved one
    after the other, which keeps the five vectors of the iteration short.

    Args:
        views: The labeled views.
        lifted: The aggregate and its mass M, with the same trust.
        trust: How far each region of each view is believed; None for all alike.
        steps: How many steps; each is a pass over the views per level, and there is one more.
        damping: Strength of the pull to the aggregate.

    Returns:
        The fit, scaled back to unit latents.
    """
    fitted = [
        _conjugate_gradients(views, lifted.latents[:, level], lifted.mass[:, level], level, trust, steps, damping)
        for level in range(lifted.latents.shape[1])
    ]
    return LiftedLatents(unit_or_zero(torch.stack(fitted, dim=1)), lifted.mass)


def _conjugate_gradients(
    views: Iterable[RegionView],
    start: Float[Tensor, "num_gaussians latent_dim"],
    mass: Float[Tensor, " num_gaussians"],
    level: int,
    trust: Trust | None,
    steps: int,
    damping: float,
) -> Float[Tensor, "num_gaussians latent_dim"]:
    """Preconditioned conjugate gradients of all latent dimensions together, which have one matrix in common."""
    mass = mass[:, None]
    inverse_diagonal = torch.where(mass > 0, 1 / ((1 + damping) * mass), 0.0)

    def normal(latents: Tensor, with_targets: bool) -> Tensor:
        """W^T R (y - W x), or W^T R W x without the targets."""
        total = torch.zeros_like(latents)
        for number, view in enumerate(views):
            pixels = view.operator.composite(latents)
            if with_targets:
                pixels = view.paint(view.latents)[:, :, level] - pixels
            believed = view.paint(region_weights_of(view, number, trust)[:, None])[:, :, level]
            total += view.operator.backproject(believed * pixels)
        return total

    solution = start.clone()
    # At the aggregate the pull to it is zero.
    residual = normal(solution, with_targets=True)
    direction = preconditioned = inverse_diagonal * residual
    energy = (residual * preconditioned).sum()
    for _ in range(steps):
        image = normal(direction, with_targets=False) + damping * mass * direction
        curvature = (direction * image).sum()
        if not bool(curvature > 0):
            break
        step = energy / curvature
        solution = solution + step * direction
        residual = residual - step * image
        preconditioned = inverse_diagonal * residual
        previous, energy = energy, (residual * preconditioned).sum()
        direction = preconditioned + energy / previous * direction
    return solution
