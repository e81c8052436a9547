"""Robust lifting: regions that contradict the consensus of all views lose their weight.

Iteratively reweighted least squares with one weight per region and view, see `residuals`. Two things make it cheap:

- The consensus comes from a sample of the views, and every view is compared with it once.
- Wrong regions show up in downscaled views already, so only the last pass uses full resolution.

The strength of the weights is selected by cross-validation on two halves of the sample: each half is lifted on its own
and compared with the regions of the other half. Where regions are wrong, the weights reduce the left-out residual even
though it includes wrong regions, because the lifted latents scatter less. Where regions differ for legitimate reasons,
the weights increase it, and half the strength or none is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.lifting.average import LatentMean, LiftedLatents
from genlangsplat_ns.lifting.regions import RegionConsensus, RegionWeights
from genlangsplat_ns.lifting.residuals import MIN_COVERAGE, Residuals, expected_residuals
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.lifting.view_jobs import (
    JobRunner,
    LocalRunner,
    ViewSequence,
    expected_in_regions,
    left_out_residuals,
    region_consensus,
    region_statistics,
    sum_latents,
    sum_region_residuals,
)
from genlangsplat_ns.utils.progress import progress_bar
from genlangsplat_ns.utils.vectors import unit_or_zero

SAMPLE_EVERY = 8
"""One in this many views is in the sample."""

MIN_SAMPLE = 40
"""Smallest number of views in the sample, if there are as many."""

MIN_HALVED_SAMPLE = 8
"""A smaller sample is not cross-validated, because its halves are too noisy; it uses full strength."""

STRENGTHS = (1.0, 0.5)
"""Strengths of the region weights to try, strongest first."""

MAX_RESIDUAL_RATIO = 1.03
"""Largest accepted ratio of the left-out residual to that of the plain mean.

It is above 1 because left-out regions may be wrong themselves. The lifted latents get sharper, and queries improve.
"""

CONVERGED = 0.02
"""The rounds stop when the region weights change by less than this on average."""


@torch.no_grad()
def lift_latents(
    views: ViewSequence,
    num_gaussians: int,
    levels: int,
    latent_dim: int,
    settings: LiftSettings,
    device: torch.device | str = "cpu",
    small_views: ViewSequence | None = None,
    with_consensus: bool = False,
) -> LiftedLatents:
    """Lifts the latents of labeled views onto the Gaussians, in this process.

    Args:
        views: The labeled views; they must be the same whenever they are loaded.
        small_views: The same views downscaled, for the region weights; None uses the views themselves.
        with_consensus: Whether the result holds the consensus on each region, from which a memory is fitted.

    Raises:
        GenLangSplatError: There is no Gaussian, or no region falls on one.
    """
    total = max_view_visits(len(views), settings.robust_rounds)
    with progress_bar("Lifting latents", total) as bar:
        runner = LocalRunner(views, views if small_views is None else small_views, device, bar)
        lifted = RobustLift(runner, (num_gaussians, levels, latent_dim), settings, with_consensus).lift()
        bar.move_to(total)
    return lifted


@dataclass
class SampleFit:
    """The robust fit of a sample of views."""

    sums: Float[Tensor, "num_gaussians levels channels"]
    """Sums of weighted latents and of weights."""
    region_weights: RegionWeights
    expected: Float[Tensor, "num_gaussians levels"]
    """The expected residual of each Gaussian."""
    strength: float
    """The strength of the region weights."""

    @property
    def latents(self) -> Float[Tensor, "num_gaussians levels latent_dim"]:
        """The latents of the sample."""
        return unit_or_zero(self.sums[..., :-1])


@dataclass(frozen=True)
class RobustLift:
    """Robust lifting by jobs on views, with `settings` and `with_consensus` as in `lift_latents`."""

    runner: JobRunner
    shape: tuple[int, int, int]
    """Number of Gaussians, number of levels, width of a latent."""
    settings: LiftSettings
    with_consensus: bool = False

    def lift(self) -> LiftedLatents:
        """Lifts all views, with region weights unless the settings ask for the plain average."""
        self.settings.validate()
        numbers = range(self.runner.num_views)
        if self.settings.robust_rounds == 0 or self.runner.num_views == 0:
            lifted = self._average(numbers, None)
            if not self.with_consensus:
                return lifted
            return replace(lifted, region_consensus=self._consensus(numbers, lifted.latents))
        fit = self.fit_sample()
        shared = fit.latents, fit.expected
        statistics, _ = self.runner.run(region_statistics, numbers, shared, None, small=True, summed=False)
        residuals = Residuals([item.residuals for item in statistics], [item.expected for item in statistics])
        weights = residuals.region_weights(fit.strength)
        lifted = self._average(numbers, weights if fit.strength > 0 else None)
        consensus = [item.consensus for item in statistics]
        if self.with_consensus:
            # Some views show objects that the sample did not see.
            uncovered = [number for number, item in enumerate(statistics) if bool((item.coverage < MIN_COVERAGE).any())]
            for number, updated in zip(uncovered, self._consensus(uncovered, lifted.latents), strict=True):
                consensus[number] = updated
        return replace(lifted, region_weights=weights, region_consensus=consensus)

    def fit_sample(self) -> SampleFit:
        """Fits a sample of the views."""
        first, second = sample_halves(self.runner.num_views)
        sample = [*first, *second]
        fit = self.first_round([first, second] if len(sample) >= MIN_HALVED_SAMPLE else [sample])
        for _ in range(self.settings.robust_rounds - 1 if fit.strength > 0 else 0):
            residuals, fit.expected = self._residuals([sample], [fit.latents], fit.region_weights)
            previous, fit.region_weights = fit.region_weights, residuals.region_weights(fit.strength)
            changes = [(new - old).abs() for new, old in zip(fit.region_weights, previous, strict=True)]
            if float(torch.cat(changes).mean()) < CONVERGED:
                break
            fit.sums = self._sums(sample, fit.region_weights)
        return fit

    def first_round(self, parts: list[Sequence[int]]) -> SampleFit:
        """Computes the first region weights; with two halves, selects their strength by cross-validation."""
        plain_sums = [self._sums(part, None) for part in parts]
        residuals, expected = self._residuals(parts, [unit_or_zero(sums[..., :-1]) for sums in plain_sums], None)
        split = len(parts[0])

        def fit(strength: float) -> tuple[SampleFit, list[Tensor]]:
            weights = residuals.region_weights(strength)
            by_part = (weights[:split], weights[split:])
            sums = [self._sums(part, own) for part, own in zip(parts, by_part, strict=False)]
            return SampleFit(reduce(torch.add, sums), weights, expected, strength), sums

        if len(parts) == 1:
            return fit(1.0)[0]
        plain_residual = self._left_out_residual(parts, plain_sums)
        for strength in STRENGTHS:
            fitted, sums = fit(strength)
            if self._left_out_residual(parts, sums) <= MAX_RESIDUAL_RATIO * plain_residual:
                return fitted
        return SampleFit(reduce(torch.add, plain_sums), residuals.region_weights(0.0), expected, 0.0)

    def _left_out_residual(self, halves: list[Sequence[int]], sums: list[Tensor]) -> float:
        """Mean residual over the pixels of each half, given the latents of the other half."""
        totals = torch.zeros(2)
        for half, other in zip(halves, reversed(sums), strict=True):
            latents = unit_or_zero(other[..., :-1])
            residuals, _ = self.runner.run(left_out_residuals, half, latents, None, small=True, summed=False)
            totals += torch.stack(residuals).sum(dim=0).cpu()
        return float(totals[0] / totals[1].clamp_min(1.0))

    def _sums(self, numbers: Sequence[int], region_weights: RegionWeights | None) -> Tensor:
        """Sums the latents of downscaled views."""
        return self.runner.run(sum_latents, numbers, self.shape, region_weights, small=True, summed=True)[1]

    def _average(self, numbers: Sequence[int], region_weights: RegionWeights | None) -> LiftedLatents:
        """Averages full-resolution views."""
        average = LatentMean(*self.shape)
        _, average.sums = self.runner.run(sum_latents, numbers, self.shape, region_weights, small=False, summed=True)
        average.num_views = len(numbers)
        return average.solve()

    def _residuals(
        self, parts: list[Sequence[int]], latents: list[Tensor], region_weights: RegionWeights | None
    ) -> tuple[Residuals, Tensor]:
        """Computes the residuals of parts of the views against their own latents, and those expected of Gaussians."""
        found: list[Tensor] = []
        sums = []
        for part, own in zip(parts, latents, strict=True):
            residuals, added = self.runner.run(sum_region_residuals, part, own, region_weights, small=True, summed=True)
            found += residuals
            sums.append(added)
        expected = expected_residuals(reduce(torch.add, sums))
        sample = [number for part in parts for number in part]
        in_regions, _ = self.runner.run(expected_in_regions, sample, expected, None, small=True, summed=False)
        return Residuals(found, in_regions), expected

    def _consensus(self, numbers: Sequence[int], latents: Tensor) -> list[RegionConsensus]:
        """Computes the consensus on the regions of some views."""
        return self.runner.run(region_consensus, numbers, latents, None, small=True, summed=False)[0]


def sample_halves(num_views: int) -> tuple[list[int], list[int]]:
    """Numbers of the views of the sample, as two interleaved halves; deterministic."""
    count = min(num_views, max(MIN_SAMPLE, ceil(num_views / SAMPLE_EVERY)))
    sample = [number * num_views // count for number in range(count)]
    return sample[::2], sample[1::2]


def max_view_visits(num_views: int, rounds: int) -> int:
    """The largest number of views that `RobustLift.lift` processes, counting repetitions."""
    if rounds == 0:
        return 2 * num_views
    sample = sum(map(len, sample_halves(num_views)))
    return 3 * num_views + sample * (3 * rounds + 1 + 2 * len(STRENGTHS))
