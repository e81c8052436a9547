"""Refinement of averaged latents toward the least-squares fit of their renders."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.lifting.average import LiftedLatents, weights_of_view
from genlangsplat_ns.lifting.regions import RegionView, RegionWeights
from genlangsplat_ns.utils.vectors import unit_or_zero


@torch.no_grad()
def fit_least_squares(
    views: Iterable[RegionView],
    lifted: LiftedLatents,
    region_weights: RegionWeights | None,
    steps: int,
    damping: float,
) -> LiftedLatents:
    """Moves averaged latents toward those whose renders fit the views best in the least-squares sense.

    Solves `(W^T R W + damping M) x = W^T R y + damping M a` by conjugate gradients from the average `a`, where W
    composites all views, y are their targets, R is the weight of each pixel's region and `M = W^T R 1`. M bounds the
    diagonal of `W^T R W`, because the weights of a pixel add up to at most 1, and serves as the preconditioner. Levels
    are solved one after the other, which keeps the five vectors of the iteration short.

    Args:
        views: The labeled views.
        lifted: The average and its mass M, computed with the same region weights.
        region_weights: For every view the weights of its regions; None weights all regions by 1.
        steps: Number of steps; each is a pass over the views per level, and there is one more pass.
        damping: Strength of the pull to the average.

    Returns:
        The fit, scaled to unit latents.
    """
    fitted = [
        _conjugate_gradients(
            views, lifted.latents[:, level], lifted.mass[:, level], level, region_weights, steps, damping
        )
        for level in range(lifted.latents.shape[1])
    ]
    return LiftedLatents(unit_or_zero(torch.stack(fitted, dim=1)), lifted.mass)


def _conjugate_gradients(
    views: Iterable[RegionView],
    start: Float[Tensor, "num_gaussians latent_dim"],
    mass: Float[Tensor, " num_gaussians"],
    level: int,
    region_weights: RegionWeights | None,
    steps: int,
    damping: float,
) -> Float[Tensor, "num_gaussians latent_dim"]:
    """Preconditioned conjugate gradients of all latent dimensions together, which share one matrix."""
    mass = mass[:, None]
    inverse_diagonal = torch.where(mass > 0, 1 / ((1 + damping) * mass), 0.0)

    def normal(latents: Tensor, with_targets: bool) -> Tensor:
        """W^T R (y - W x), or W^T R W x without the targets."""
        total = torch.zeros_like(latents)
        for number, view in enumerate(views):
            pixels = view.operator.composite(latents)
            if with_targets:
                pixels = view.paint(view.latents)[:, :, level] - pixels
            weights = view.paint(weights_of_view(view, number, region_weights)[:, None])[:, :, level]
            total += view.operator.backproject(weights * pixels)
        return total

    solution = start.clone()
    # At the average the pull to it is zero.
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
