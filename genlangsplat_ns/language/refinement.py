"""Robust lifting: regions that contradict what all views together say lose their weight, round by round.

Iteratively re-weighted least squares with one weight per region and view. A mask model labels a region as a whole, so
a region is right or wrong as a whole, and the mean over its pixels tells it far better than one pixel could.

Which regions are wrong shows in small views already, so only the last pass, which makes the latents, needs whole ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.console import Bar, moving_bar
from genlangsplat_ns.language.lifting import (
    LabelledView,
    LiftedLatents,
    LiftSettings,
    Trust,
    accumulate,
    region_weights_of,
)
from genlangsplat_ns.language.sharpening import sharpen

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


@dataclass(frozen=True)
class Disagreement:
    """How regions differ from what all views together say, and how much is usual."""

    residuals: list[Tensor]
    """For every view the residuals of its regions, see `region_residuals`."""
    typical: Float[Tensor, ""]
    """Their median."""
    usual: Float[Tensor, "num_gaussians levels"]
    """Mean residual of the regions that believed views put on a Gaussian."""

    @classmethod
    def between(
        cls, residuals: list[Tensor], sums: Float[Tensor, "num_gaussians levels residual_and_trust"]
    ) -> Disagreement:
        """Learns from the two answers of `sum_residuals` what is usual."""
        typical = torch.cat(residuals).nanmedian().nan_to_num(1.0).clamp_min(SMALLEST_SCALE)
        return cls(residuals, typical, sums[..., 0] / sums[..., 1].clamp_min(1e-6))

    def trust(self, view: LabelledView, number: int) -> Float[Tensor, " num_regions"]:
        """How far to believe each region of a view: `exp(-(r / s)^2 / 2)` (Welsch).

        The scale s is the typical residual, or a part of what is usual at the region's place when that is more. A small
        thing that its neighbours always bleed into has great residuals in all views; by the typical residual alone it
        would be rejected in all of them and be told by its neighbours.

        Args:
            view: The view.
            number: Its place among the residuals.
        """
        residuals = self.residuals[number]
        levels = self.usual.shape[1]
        carried = torch.cat([self.usual, torch.ones_like(self.usual[:, :1])], dim=1)
        rendered = view.operator.composite(carried)
        opacity = rendered[..., levels:].expand(-1, -1, levels)
        usual = view.sum_over_regions(rendered[..., :levels]) / view.sum_over_regions(opacity).clamp_min(1e-6)
        scale = torch.maximum(USUAL_SHARE * usual, self.typical)
        return torch.exp(-0.5 * (residuals / scale) ** 2).clamp_min(LEAST_TRUST).nan_to_num(1.0)


@runtime_checkable
class ViewWalk(Protocol):
    """Labelled views that can be walked through as often as asked."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[LabelledView]: ...


@runtime_checkable
class LiftPasses(Protocol):
    """The passes over all views that robust lifting is made of, wherever they run."""

    def aggregate(self, trust: Trust | None, judging: bool) -> LiftedLatents:
        """Joins all views; with `judging` the small ones, on which regions are judged."""
        ...

    def compare(self, lifted: LiftedLatents, trust: Trust | None) -> Disagreement:
        """Measures how the regions of all views differ from the lifted latents."""
        ...

    def judge(self, disagreement: Disagreement) -> Trust:
        """Decides how far each region of each view is believed."""
        ...


def refine(passes: LiftPasses, rounds: int) -> LiftedLatents:
    """Aggregates views in rounds, each time without the regions that the aggregate before contradicts.

    Args:
        passes: The passes over the views.
        rounds: How often regions are judged; 0 for one plain aggregate.

    Returns:
        The latents, with how far each region was believed.
    """
    trust: Trust | None = None
    for _ in range(rounds):
        lifted = passes.aggregate(trust, judging=True)
        trust = passes.judge(passes.compare(lifted, trust))
    return replace(passes.aggregate(trust, judging=False), region_weights=trust)


def num_passes(rounds: int) -> int:
    """How often `refine` goes through the views."""
    return 3 * rounds + 1


@torch.no_grad()
def lift_latents(
    views: ViewWalk,
    num_gaussians: int,
    levels: int,
    latent_dim: int,
    settings: LiftSettings,
    device: torch.device | str = "cpu",
    judged: ViewWalk | None = None,
) -> LiftedLatents:
    """Lifts the latents of all views onto the Gaussians, in this process.

    Args:
        views: The labelled views, the same in the same order each time they are walked through.
        num_gaussians: How many Gaussians they composite.
        levels: Levels of their regions.
        latent_dim: Width of their latents.
        settings: How.
        device: Where the latents lie.
        judged: The same views in small, on which regions are judged; None for the views themselves.

    Raises:
        GenLangSplatError: There is no Gaussian, or no view has a region that falls on one.
    """
    with moving_bar("Lifting latents", num_passes(settings.robust_rounds) * len(views)) as bar:
        passes = LocalPasses(
            views, views if judged is None else judged, (num_gaussians, levels, latent_dim), settings, device, bar
        )
        lifted = refine(passes, settings.robust_rounds)
    if settings.gradient_steps > 0:
        sharpened = sharpen(views, lifted, lifted.region_weights, settings.gradient_steps, settings.damping)
        lifted = replace(sharpened, region_weights=lifted.region_weights)
    return lifted


@dataclass(frozen=True)
class LocalPasses:
    """All views in this process, one after the other."""

    views: Iterable[LabelledView]
    """The views."""
    judged: Iterable[LabelledView]
    """The same in small."""
    shape: tuple[int, int, int]
    """Gaussians, levels, width of a latent."""
    settings: LiftSettings
    """How views are joined."""
    device: torch.device | str
    """Where the latents lie."""
    bar: Bar
    """Moves with every view of every pass."""

    def aggregate(self, trust: Trust | None, judging: bool) -> LiftedLatents:
        """Joins all views."""
        views = self._walk(self.judged if judging else self.views)
        return accumulate(views, trust, *self.shape, self.settings, self.device).solve()

    def compare(self, lifted: LiftedLatents, trust: Trust | None) -> Disagreement:
        """Measures how the regions of all views differ from the lifted latents."""
        return Disagreement.between(*sum_residuals(self._walk(self.judged), lifted, trust))

    def judge(self, disagreement: Disagreement) -> Trust:
        """Decides how far each region of each view is believed."""
        return [disagreement.trust(view, number) for number, view in enumerate(self._walk(self.judged))]

    def _walk(self, views: Iterable[LabelledView]) -> Iterator[LabelledView]:
        for view in views:
            yield view
            self.bar.advance()


def sum_residuals(
    views: Iterable[LabelledView], lifted: LiftedLatents, trust: Trust | None
) -> tuple[list[Tensor], Float[Tensor, "num_gaussians levels residual_and_trust"]]:
    """Measures in one pass how the regions of views differ from the lifted latents.

    Args:
        views: The labelled views.
        lifted: What all views together say.
        trust: How far the regions were believed so far, which decides what is usual; None for all alike.

    Returns:
        For every view the residuals of its regions; for every Gaussian and level the sum of the residuals of the
        believed regions that lie on it, and the sum of what they are believed.
    """
    reference = lifted.latents + LEVEL_SUPPORT * lifted.latents.mean(dim=1, keepdim=True)
    residuals: list[Tensor] = []
    levels = lifted.mass.shape[1]
    sums = torch.stack([torch.zeros_like(lifted.mass)] * 2, dim=-1)
    for number, view in enumerate(views):
        residuals.append(region_residuals(view, reference))
        believed = region_weights_of(view, number, trust)
        values = torch.stack([believed * residuals[-1].nan_to_num(0.0), believed], dim=1)
        sums += view.operator.backproject(view.paint(values).flatten(-2)).unflatten(-1, (levels, 2))
    return residuals, sums


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
    return view.sum_over_regions((1 - cosines) * shown) / view.sum_over_regions(shown)
