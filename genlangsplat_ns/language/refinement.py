"""Robust lifting: regions that contradict what all views together say lose their weight, round by round.

Iteratively re-weighted least squares with one weight per region and view. A mask model labels a region as a whole, so
a region is right or wrong as a whole, and the mean over its pixels tells it far better than one pixel could.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.lifting import (
    LabelledView,
    LiftedLatents,
    LiftSettings,
    aggregate,
    unit_or_zero,
)

LEAST_TRUST = 1e-3
"""What a wholly contradicted region still counts, so that it speaks where no other does."""

SMALLEST_SCALE = 0.02
"""A residual below this is no disagreement, however well everything else fits."""

LEVEL_SUPPORT = 3.0
"""What the mean of all levels counts beside a region's own level when the region is judged. Levels err independently,
and where few views see a thing, most may be wrong at one level but hardly at all. Where levels differ by right, they do
in all views, which is then usual."""

USUAL_SHARE = 0.6
"""Part of the usual residual of a place that is held to be no error."""

Trust = list[Tensor]
"""For every view how far each of its regions is believed, from 0 to 1."""


@torch.no_grad()
def lift_latents(
    views: Iterable[LabelledView],
    num_gaussians: int,
    levels: int,
    latent_dim: int,
    settings: LiftSettings,
    device: torch.device | str = "cpu",
) -> LiftedLatents:
    """Lifts the latents of all views onto the Gaussians.

    Args:
        views: The labelled views, the same in the same order each time they are walked through.
        num_gaussians: How many Gaussians they composite.
        levels: Levels of their regions.
        latent_dim: Width of their latents.
        settings: How.
        device: Where the latents lie.

    Raises:
        GenLangSplatError: There is no Gaussian, or no view has a region that falls on one.
    """
    lifted = aggregate(((view, None) for view in views), num_gaussians, levels, latent_dim, settings, device)
    trust: Trust | None = None
    for _ in range(settings.robust_rounds):
        disagreement = measure_disagreement(views, lifted, trust)
        judged: Trust = []
        lifted = aggregate(_judge(views, disagreement, judged), num_gaussians, levels, latent_dim, settings, device)
        trust = judged
    if settings.gradient_steps > 0:
        lifted = sharpen(views, lifted, trust, settings.gradient_steps, settings.damping)
    return lifted


@dataclass(frozen=True)
class Disagreement:
    """How regions differ from what all views together say, and how much is usual."""

    residuals: list[Tensor]
    """For every view the residuals of its regions, see `region_residuals`."""
    typical: Float[Tensor, ""]
    """Their median."""
    usual: Float[Tensor, "num_gaussians levels"]
    """Mean residual of the regions that believed views put on a Gaussian."""

    def trust(self, view: LabelledView, number: int) -> Float[Tensor, " num_regions"]:
        """How far to believe each region of a view: `exp(-(r / s)^2 / 2)` (Welsch).

        The scale s is the typical residual, or a part of what is usual at the region's place when that is more. A small
        thing that its neighbours always bleed into has great residuals in all views; by the typical residual alone it
        would be rejected in all of them and be told by its neighbours.

        Args:
            view: The view.
            number: Its place among the views.
        """
        residuals = self.residuals[number]
        levels = self.usual.shape[1]
        carried = torch.cat([self.usual, torch.ones_like(self.usual[:, :1])], dim=1)
        rendered = view.operator.composite(carried)
        opacity = rendered[..., levels:].expand(-1, -1, levels)
        usual = _sum_over_regions(view, rendered[..., :levels]) / _sum_over_regions(view, opacity).clamp_min(1e-6)
        scale = torch.maximum(USUAL_SHARE * usual, self.typical)
        return torch.exp(-0.5 * (residuals / scale) ** 2).clamp_min(LEAST_TRUST).nan_to_num(1.0)


def measure_disagreement(views: Iterable[LabelledView], lifted: LiftedLatents, trust: Trust | None) -> Disagreement:
    """Measures in one pass how the regions of all views differ from the lifted latents.

    Args:
        views: The labelled views.
        lifted: What all views together say.
        trust: How far the regions were believed so far, which decides what is usual; None for all alike.
    """
    reference = lifted.latents + LEVEL_SUPPORT * lifted.latents.mean(dim=1, keepdim=True)
    residuals: list[Tensor] = []
    levels = lifted.mass.shape[1]
    sums = torch.stack([torch.zeros_like(lifted.mass)] * 2, dim=-1)
    for number, view in enumerate(views):
        residuals.append(region_residuals(view, reference))
        believed = _trust_of(view, number, trust)
        values = torch.stack([believed * residuals[-1].nan_to_num(0.0), believed], dim=1)
        sums += view.operator.backproject(view.paint(values).flatten(-2)).unflatten(-1, (levels, 2))
    typical = torch.cat(residuals).nanmedian().nan_to_num(1.0).clamp_min(SMALLEST_SCALE)
    return Disagreement(residuals, typical, sums[..., 0] / sums[..., 1].clamp_min(1e-6))


def _judge(
    views: Iterable[LabelledView], disagreement: Disagreement, judged: Trust
) -> Iterator[tuple[LabelledView, Tensor]]:
    """Joins views with the trust in their regions, and notes that down in `judged`."""
    for number, view in enumerate(views):
        trust = disagreement.trust(view, number)
        judged.append(trust)
        yield view, trust


def region_residuals(
    view: LabelledView, latents: Float[Tensor, "num_gaussians levels latent_dim"]
) -> Float[Tensor, " num_regions"]:
    """One minus the mean cosine between what each region says and what its pixels show; NaN for one that shows nothing.

    Args:
        view: The view.
        latents: What the Gaussians carry.
    """
    rendered = view.operator.composite(latents.flatten(1)).unflatten(-1, latents.shape[1:])
    lengths = rendered.norm(dim=-1)
    cosines = (rendered * view.paint(view.latents)).sum(dim=-1) / lengths.clamp_min(1e-6)
    shown = (lengths > 0).to(cosines.dtype)
    return _sum_over_regions(view, (1 - cosines) * shown) / _sum_over_regions(view, shown)


def _sum_over_regions(
    view: LabelledView, values: Float[Tensor, "height width levels"]
) -> Float[Tensor, " num_regions"]:
    """Adds up what the pixels of each region have."""
    # Index -1 adds to the last entry, which is no region's.
    rows = view.regions.permute(1, 2, 0).flatten().long() % (len(view.latents) + 1)
    sums = values.new_zeros(len(view.latents) + 1)
    return sums.index_add_(0, rows, values.flatten())[:-1]


def _trust_of(view: LabelledView, number: int, trust: Trust | None) -> Float[Tensor, " num_regions"]:
    return view.latents.new_ones(len(view.latents)) if trust is None else trust[number]


def sharpen(
    views: Iterable[LabelledView],
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
        views: The labelled views.
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
    views: Iterable[LabelledView],
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
            believed = view.paint(_trust_of(view, number, trust)[:, None])[:, :, level]
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
