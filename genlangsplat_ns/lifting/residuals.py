"""How far the regions of views contradict what all views together say, and how far each is believed.

A mask model labels a region as a whole, so a region is right or wrong as a whole, and the mean over its pixels tells it
far better than one pixel could.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.lifting.average import RegionConsensus, RegionView, Trust, paint, region_weights_of

LEAST_TRUST = 1e-3
"""What a wholly contradicted region still counts, so that it speaks where no other does."""

SMALLEST_SCALE = 0.02
"""A residual below this is no disagreement, however well everything else fits."""

LEVEL_SUPPORT = 3.0
"""What the mean of all levels counts beside a region's own level when the region is judged. Levels err independently,
and where few views see a thing, most may be wrong at one level but hardly at all. Where levels differ by right, they do
in all views, which is then usual."""

LEAST_COVERED = 0.5
"""A region is judged where Gaussians that were seen make up at least this share of its opacity."""

USUAL_SHARE = 0.6
"""Part of the usual residual of a place that is held to be no error."""


@dataclass(frozen=True)
class Disagreement:
    """How the regions of views differ from what the views together say, and how much is usual where they lie."""

    residuals: list[Tensor]
    """For every view the residuals of its regions, see `region_residuals`."""
    usual: list[Tensor]
    """For every view and region the mean residual of what believed views put on the same Gaussians."""

    def trust(self, strength: float = 1.0) -> Trust:
        """How far to believe each region of each view: `exp(-(strength r / s)^2 / 2)` (Welsch).

        The scale s is the median residual, or a part of what is usual at the region's place when that is more. A small
        thing that its neighbors always bleed into has great residuals in all views; by the median alone it would be
        rejected in all of them and be told by its neighbors.

        Args:
            strength: How hard regions are judged; 0 believes all alike.
        """
        if not self.residuals:
            return []
        median = torch.cat(self.residuals).nanmedian().nan_to_num(1.0).clamp_min(SMALLEST_SCALE)
        return [
            torch.exp(-0.5 * (strength * residuals / torch.maximum(USUAL_SHARE * usual, median)) ** 2)
            .clamp_min(LEAST_TRUST)
            .nan_to_num(1.0)
            for residuals, usual in zip(self.residuals, self.usual, strict=True)
        ]


def region_residuals(
    view: RegionView, rendered: Float[Tensor, "height width levels latent_dim"]
) -> Float[Tensor, " num_regions"]:
    """One minus the mean cosine between what each region says and what its pixels show; NaN for one that shows nothing.

    Args:
        view: The view.
        rendered: What its pixels show.
    """
    lengths = rendered.norm(dim=-1)
    cosines = (rendered * view.paint(view.latents)).sum(dim=-1) / lengths.clamp_min(1e-6)
    shown = (lengths > 0).to(cosines.dtype)
    return view.sum_over_regions((1 - cosines) * shown) / view.sum_over_regions(shown)


def with_other_levels(
    rendered: Float[Tensor, "height width levels latent_dim"],
) -> Float[Tensor, "height width levels latent_dim"]:
    """What the pixels of a view show, with the support that levels give each other."""
    return rendered + LEVEL_SUPPORT * rendered.mean(dim=2, keepdim=True)


def sum_residuals(
    views: Iterable[RegionView], latents: Float[Tensor, "num_gaussians levels latent_dim"], trust: Trust | None
) -> tuple[list[Tensor], Float[Tensor, "num_gaussians levels residual_and_trust"]]:
    """Measures in one pass how the regions of views differ from lifted latents.

    Args:
        views: The labeled views.
        latents: What the views together say.
        trust: How far the regions were believed so far, which decides what is usual; None for all alike.

    Returns:
        For every view the residuals of its regions; for every Gaussian and level the sum of the residuals of the
        believed regions that lie on it, and the sum of what they are believed.
    """
    residuals: list[Tensor] = []
    sums = latents.new_zeros(*latents.shape[:2], 2)
    for number, view in enumerate(views):
        residuals.append(region_residuals(view, with_other_levels(composite_latents(view, latents))))
        believed = region_weights_of(view, number, trust)
        values = torch.stack([believed * residuals[-1].nan_to_num(0.0), believed], dim=1)
        sums += view.operator.backproject(view.paint(values).flatten(-2)).unflatten(-1, sums.shape[1:])
    return residuals, sums


def usual_residuals(
    sums: Float[Tensor, "num_gaussians levels residual_and_trust"],
) -> Float[Tensor, "num_gaussians levels"]:
    """The mean residual of the believed regions on each Gaussian, of the sums that `sum_residuals` gives."""
    return sums[..., 0] / sums[..., 1].clamp_min(1e-6)


def usual_of_regions(view: RegionView, usual: Float[Tensor, "num_gaussians levels"]) -> Float[Tensor, " num_regions"]:
    """The residual that is usual where each region of a view lies."""
    return mean_in_regions(view, usual)


def mean_in_regions(view: RegionView, values: Float[Tensor, "num_gaussians levels"]) -> Float[Tensor, " num_regions"]:
    """The mean in each region of a view of what the Gaussians carry, by their weights."""
    levels = values.shape[1]
    rendered = view.operator.composite(torch.cat([values, torch.ones_like(values[:, :1])], dim=1))
    opacity = rendered[..., levels:].expand(-1, -1, levels)
    return view.sum_over_regions(rendered[..., :levels]) / view.sum_over_regions(opacity).clamp_min(1e-6)


def summed_residual(
    view: RegionView, latents: Float[Tensor, "num_gaussians levels latent_dim"]
) -> Float[Tensor, " residual_and_count"]:
    """The sum of one minus cosine over pixels of regions that show something, and how many these are.

    A mean needs no more than every second row and column.

    Args:
        view: The view.
        latents: What other views say.
    """
    rendered, rows = (pixels[::2, ::2].contiguous() for pixels in (composite_latents(view, latents), view.rows))
    lengths = rendered.norm(dim=-1)
    cosines = (rendered * paint(rows, view.latents)).sum(dim=-1) / lengths.clamp_min(1e-6)
    valid = (rows < len(view.latents)) & (lengths > 0)
    return torch.stack([((1 - cosines) * valid).sum(), valid.sum().to(cosines.dtype)])


def coverage_of_regions(view: RegionView, seen: Bool[Tensor, "num_gaussians levels"]) -> Float[Tensor, " num_regions"]:
    """The share of what is opaque in each region of a view that Gaussians make up on which others saw a region."""
    return mean_in_regions(view, seen.float())


@dataclass(frozen=True)
class RegionReport:
    """What one walk tells of the regions of a view, given what the views together say."""

    residuals: Float[Tensor, " num_regions"]
    """See `region_residuals`; NaN where the views hardly saw what the region shows."""
    covered: Float[Tensor, " num_regions"]
    """See `coverage_of_regions`."""
    usual: Float[Tensor, " num_regions"]
    """See `usual_of_regions`."""
    consensus: RegionConsensus
    """What the views together say."""

    @classmethod
    def of(
        cls,
        view: RegionView,
        latents: Float[Tensor, "num_gaussians levels latent_dim"],
        usual: Float[Tensor, "num_gaussians levels"],
    ) -> RegionReport:
        """Reports on a view.

        Args:
            view: The view.
            latents: What the views together say.
            usual: The residual that is usual on each Gaussian.
        """
        rendered = composite_latents(view, latents)
        covered = coverage_of_regions(view, latents.any(dim=-1))
        # What bleeds in from beside is no measure of a thing that nobody else saw.
        residuals = region_residuals(view, with_other_levels(rendered)).masked_fill(covered < LEAST_COVERED, torch.nan)
        return cls(residuals, covered, usual_of_regions(view, usual), view.consensus(rendered))

    def packed(self) -> Float[Tensor, "num_regions columns"]:
        """All of it in one matrix."""
        return torch.cat(
            [torch.stack([self.residuals, self.covered, self.usual], dim=1), self.consensus.packed()], dim=1
        )

    @classmethod
    def unpacked(cls, packed: Float[Tensor, "num_regions columns"], latent_dim: int) -> RegionReport:
        """The report that was packed."""
        residuals, covered, usual = packed[:, :3].unbind(dim=1)
        return cls(residuals, covered, usual, RegionConsensus.unpacked(packed[:, 3:], latent_dim))


def composite_latents(
    view: RegionView, latents: Float[Tensor, "num_gaussians levels latent_dim"]
) -> Float[Tensor, "height width levels latent_dim"]:
    """What the pixels of a view show of latents."""
    return view.operator.composite(latents.flatten(1)).unflatten(-1, latents.shape[1:])
