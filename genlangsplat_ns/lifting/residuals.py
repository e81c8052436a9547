"""Residuals between the regions of views and the consensus of all views, and the robust weights that follow from them.

A mask model labels a region as a whole, so a region is right or wrong as a whole. The mean over its pixels is a much
more reliable residual than a single pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.lifting.average import weights_of_view
from genlangsplat_ns.lifting.regions import RegionConsensus, RegionView, RegionWeights, paint

MIN_REGION_WEIGHT = 1e-3
"""Lower bound of a region weight, so that a rejected region still counts where it is the only one."""

MIN_SCALE = 0.02
"""Lower bound of the residual scale: smaller residuals are never outliers, however well everything else fits."""

LEVEL_MEAN_WEIGHT = 3.0
"""Weight of the mean over all levels, relative to a region's own level, in the rendered latent of a residual.

Levels err independently: where few views see an object, most of them may be wrong at one level but few at all levels.
Legitimate differences between levels occur in all views, so the expected residual covers them.
"""

MIN_COVERAGE = 0.5
"""A region is reweighted where Gaussians with a latent make up at least this share of its opacity."""

EXPECTED_SHARE = 0.6
"""Share of the expected residual of a place that does not count as error."""


@dataclass(frozen=True)
class Residuals:
    """The residuals of the regions of views, and the residuals expected where they lie."""

    residuals: list[Tensor]
    """For every view the residuals of its regions, see `region_residuals`."""
    expected: list[Tensor]
    """For every view and region the weighted mean residual of the regions on the same Gaussians."""

    def region_weights(self, strength: float = 1.0) -> RegionWeights:
        """Computes the Welsch weight `exp(-(strength r / s)^2 / 2)` of each region.

        The scale s is the median residual, or `EXPECTED_SHARE` of the expected residual if that is larger. A small
        object into which its neighbors bleed has large residuals in all views. With the median alone all its regions
        would be rejected, and its neighbors would determine its latent. A strength of 0 weights all regions by 1.
        """
        if not self.residuals:
            return []
        median = torch.cat(self.residuals).nanmedian().nan_to_num(1.0).clamp_min(MIN_SCALE)
        return [
            torch.exp(-0.5 * (strength * residuals / torch.maximum(EXPECTED_SHARE * expected, median)) ** 2)
            .clamp_min(MIN_REGION_WEIGHT)
            .nan_to_num(1.0)
            for residuals, expected in zip(self.residuals, self.expected, strict=True)
        ]


def composite_latents(
    view: RegionView, latents: Float[Tensor, "num_gaussians levels latent_dim"]
) -> Float[Tensor, "height width levels latent_dim"]:
    """Composites latents into a view."""
    return torch.unflatten(view.operator.composite(latents.flatten(1)), -1, latents.shape[1:])


def region_residuals(
    view: RegionView, rendered: Float[Tensor, "height width levels latent_dim"]
) -> Float[Tensor, " num_regions"]:
    """One minus the mean cosine of a region's latent and the rendered latents of its pixels; NaN where none is."""
    lengths = rendered.norm(dim=-1)
    cosines = (rendered * view.paint(view.latents)).sum(dim=-1) / lengths.clamp_min(1e-6)
    shown = (lengths > 0).to(cosines.dtype)
    return view.sum_over_regions((1 - cosines) * shown) / view.sum_over_regions(shown)


def add_level_mean(
    rendered: Float[Tensor, "height width levels latent_dim"],
) -> Float[Tensor, "height width levels latent_dim"]:
    """Adds the weighted mean over all levels to the rendered latents of each level."""
    return rendered + LEVEL_MEAN_WEIGHT * rendered.mean(dim=2, keepdim=True)


def sum_residuals(
    views: Iterable[RegionView],
    latents: Float[Tensor, "num_gaussians levels latent_dim"],
    region_weights: RegionWeights | None,
) -> tuple[list[Tensor], Float[Tensor, "num_gaussians levels residual_and_weight"]]:
    """Computes the residuals of the regions of views against lifted latents, in one pass.

    `region_weights` are the weights of the regions in the sums; None weights all regions by 1.

    Returns:
        For every view the residuals of its regions. For every Gaussian and level the weighted sum of the residuals of
        the regions on it, and the sum of their weights.
    """
    residuals: list[Tensor] = []
    sums = latents.new_zeros(*latents.shape[:2], 2)
    for number, view in enumerate(views):
        residuals.append(region_residuals(view, add_level_mean(composite_latents(view, latents))))
        weights = weights_of_view(view, number, region_weights)
        values = torch.stack([weights * residuals[-1].nan_to_num(0.0), weights], dim=1)
        sums += view.operator.backproject(view.paint(values).flatten(-2)).unflatten(-1, sums.shape[1:])
    return residuals, sums


def expected_residuals(
    sums: Float[Tensor, "num_gaussians levels residual_and_weight"],
) -> Float[Tensor, "num_gaussians levels"]:
    """The weighted mean residual of the regions on each Gaussian, from the sums of `sum_residuals`."""
    return sums[..., 0] / sums[..., 1].clamp_min(1e-6)


def mean_in_regions(view: RegionView, values: Float[Tensor, "num_gaussians levels"]) -> Float[Tensor, " num_regions"]:
    """The mean of a value of the Gaussians in each region of a view, weighted by the compositing weights."""
    levels = values.shape[1]
    rendered = view.operator.composite(torch.cat([values, torch.ones_like(values[:, :1])], dim=1))
    opacity = rendered[..., levels:].expand(-1, -1, levels)
    return view.sum_over_regions(rendered[..., :levels]) / view.sum_over_regions(opacity).clamp_min(1e-6)


def pixel_residual(
    view: RegionView, latents: Float[Tensor, "num_gaussians levels latent_dim"]
) -> Float[Tensor, " residual_and_count"]:
    """The sum of one minus cosine over the labeled pixels of a view with a rendered latent, and their number.

    Every second row and column is enough for a mean. The latents are lifted from other views.
    """
    rendered, rows = (pixels[::2, ::2].contiguous() for pixels in (composite_latents(view, latents), view.rows))
    lengths = rendered.norm(dim=-1)
    cosines = (rendered * paint(rows, view.latents)).sum(dim=-1) / lengths.clamp_min(1e-6)
    valid = (rows < len(view.latents)) & (lengths > 0)
    return torch.stack([((1 - cosines) * valid).sum(), valid.sum().to(cosines.dtype)])


@dataclass(frozen=True)
class RegionStatistics:
    """Statistics of the regions of one view against the latents of a sample of views, from one pass."""

    residuals: Float[Tensor, " num_regions"]
    """See `region_residuals`; NaN where the coverage is below `MIN_COVERAGE`."""
    coverage: Float[Tensor, " num_regions"]
    """The share of the opacity of each region that comes from Gaussians with a latent."""
    expected: Float[Tensor, " num_regions"]
    """The expected residual in each region."""
    consensus: RegionConsensus
    """The consensus of the sample on the regions."""

    @classmethod
    def of(
        cls,
        view: RegionView,
        latents: Float[Tensor, "num_gaussians levels latent_dim"],
        expected: Float[Tensor, "num_gaussians levels"],
    ) -> RegionStatistics:
        """Computes the statistics of a view from the latents of the sample and each Gaussian's expected residual."""
        rendered = composite_latents(view, latents)
        coverage = mean_in_regions(view, latents.any(dim=-1).float())
        # An object that no view of the sample saw has no residual, only latents that bleed in from its neighbors.
        residuals = region_residuals(view, add_level_mean(rendered)).masked_fill(coverage < MIN_COVERAGE, torch.nan)
        return cls(residuals, coverage, mean_in_regions(view, expected), view.consensus(rendered))

    def cpu(self) -> RegionStatistics:
        """Moves all fields to the CPU."""
        return RegionStatistics(*(getattr(self, item.name).cpu() for item in fields(self)))
