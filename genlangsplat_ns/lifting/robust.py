"""Robust lifting: regions that contradict what all views together say lose their weight.

Iteratively re-weighted least squares with one weight per region and view, see `judging`. What makes it cheap:

- A sample of the views says what the views together say, and every view is compared with that once.
- Which regions are wrong shows in small views already, so only the last pass takes whole ones.

How hard regions are judged is decided on two halves of the sample, each of which is lifted on its own and held against
the regions of the other. Where regions are wrong, weights make what one half says fit the other better, wrong regions
included, because it scatters less. Where regions differ by right, weights make it fit worse, and regions are judged
half as hard or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.lifting.average import (
    LatentMean,
    LiftedLatents,
    LiftSettings,
    RegionConsensus,
    RegionView,
    Trust,
    accumulate,
    unit_or_zero,
)
from genlangsplat_ns.lifting.residuals import (
    LEAST_COVERED,
    Disagreement,
    RegionReport,
    composite_latents,
    sum_residuals,
    summed_residual,
    usual_of_regions,
    usual_residuals,
)
from genlangsplat_ns.lifting.sharpening import sharpen
from genlangsplat_ns.utils.progress import Bar, progress_bar

SAMPLE_SHARE = 8
"""One view in so many is in the sample."""

LEAST_SAMPLE = 40
"""The fewest views of a sample, where there are as many."""

LEAST_HALVED = 8
"""With fewer views in the sample, its halves tell nothing, and regions are judged with full strength."""

STRENGTHS = (1.0, 0.5)
"""How hard regions may be judged."""

WORST = 1.03
"""Regions are judged as hard as they can be without raising the residuals of left-out views above this share of the
plain mean's. Left-out regions may be wrong themselves, so a small rise is no harm: what is lifted gets sharper by it,
and texts find more."""

SETTLED = 0.02
"""When the trust in regions changes by less than this on average, another round changes nothing."""


@runtime_checkable
class ViewWalk(Protocol):
    """Labeled views that can be walked through as often as asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> RegionView: ...


Job = Callable[[Iterable[RegionView], Any, list[Tensor] | None, torch.device | str], tuple[list[Tensor], Tensor]]
"""What is done with some views, with what all of them share, and with what is said of each: it gives an answer for each
view, and sums over them with one row for each Gaussian, or none."""


@runtime_checkable
class LiftPasses(Protocol):
    """Does jobs on views, wherever they are done."""

    @property
    def num_views(self) -> int:
        """How many views there are."""
        ...

    def run(
        self, job: Job, part: Sequence[int], shared: Any, own: list[Tensor] | None, small: bool, summed: bool
    ) -> tuple[list[Tensor], Tensor]:
        """Does a job.

        Args:
            job: The job.
            part: Numbers of the views.
            shared: What all views share: a tensor, or a tuple.
            own: Something of each view of the part.
            small: Whether the views are the small ones, on which regions are judged.
            summed: Whether the job gives sums.

        Returns:
            The answers for all views of the part, and the sums over them.
        """
        ...


def add_latents(
    views: Iterable[RegionView],
    shared: tuple[tuple[int, int, int], LiftSettings],
    trust: Trust | None,
    device: torch.device | str,
) -> tuple[list[Tensor], Tensor]:
    """The job of adding up latents."""
    shape, settings = shared
    joined = accumulate(views, trust, *shape, settings, device)
    if settings.average == "median":
        # A median has no sums; those of its halves are taken to be their latents by their mass.
        joined.sums[..., :-1] *= joined.sums[..., -1:]
    return [torch.zeros(0)] * joined.num_views, joined.sums


def add_residuals(
    views: Iterable[RegionView], latents: Tensor, trust: Trust | None, device: torch.device | str
) -> tuple[list[Tensor], Tensor]:
    """The job of comparing regions and learning what is usual."""
    return sum_residuals(views, latents.to(device), trust)


def find_usual(
    views: Iterable[RegionView], usual: Tensor, _: Trust | None, device: torch.device | str
) -> tuple[list[Tensor], Tensor]:
    """The job of telling what is usual where regions lie."""
    return [usual_of_regions(view, usual.to(device)) for view in views], torch.zeros(0)


def predict(
    views: Iterable[RegionView], latents: Tensor, _: Trust | None, device: torch.device | str
) -> tuple[list[Tensor], Tensor]:
    """The job of holding latents against views they were not lifted from."""
    return [summed_residual(view, latents.to(device)) for view in views], torch.zeros(0)


def report_regions(
    views: Iterable[RegionView], shared: tuple[Tensor, Tensor], _: Trust | None, device: torch.device | str
) -> tuple[list[Tensor], Tensor]:
    """The job of comparing regions when it is known what is usual."""
    latents, usual = (tensor.to(device) for tensor in shared)
    return [RegionReport.of(view, latents, usual).packed() for view in views], torch.zeros(0)


def look_at_regions(
    views: Iterable[RegionView], latents: Tensor, _: Trust | None, device: torch.device | str
) -> tuple[list[Tensor], Tensor]:
    """The job of telling what the views together say of each region."""
    latents = latents.to(device)
    return [view.consensus(composite_latents(view, latents)).packed() for view in views], torch.zeros(0)


@dataclass
class Reference:
    """What a sample of views says together."""

    sums: Float[Tensor, "num_gaussians levels channels"]
    """Sums of latents and of weights."""
    trust: Trust
    """How far each region of the sample is believed."""
    usual: Float[Tensor, "num_gaussians levels"]
    """The residual that is usual on each Gaussian."""
    strength: float
    """How hard regions are judged."""

    @property
    def latents(self) -> Float[Tensor, "num_gaussians levels latent_dim"]:
        """The latents of the sample."""
        return unit_or_zero(self.sums[..., :-1])


@dataclass(frozen=True)
class Refinement:
    """Robust lifting by jobs on views.

    Args:
        passes: Does the jobs.
        shape: Gaussians, levels, width of a latent.
        settings: How views are joined.
        remember: Whether to tell what the views together say of each region, of which a memory is made.
    """

    passes: LiftPasses
    shape: tuple[int, int, int]
    settings: LiftSettings
    remember: bool = False

    def lift(self) -> LiftedLatents:
        """Lifts all views; unless that is to be plain, judges their regions first."""
        everything = range(self.passes.num_views)
        if self.settings.robust_rounds == 0 or self.passes.num_views == 0:
            lifted = self._solve(everything, None)
            if not self.remember:
                return lifted
            return replace(lifted, region_consensus=self._look(everything, lifted.latents))
        reference = self.refer()
        reports = self._report(everything, reference)
        trust = Disagreement([report.residuals for report in reports], [report.usual for report in reports]).trust(
            reference.strength
        )
        lifted = self._solve(everything, trust if reference.strength > 0 else None)
        consensus = [report.consensus for report in reports]
        if self.remember:
            # The sample did not see all that these views show.
            unsure = [number for number, report in enumerate(reports) if bool((report.covered < LEAST_COVERED).any())]
            for number, said in zip(unsure, self._look(unsure, lifted.latents), strict=True):
                consensus[number] = said
        return replace(lifted, region_weights=trust, region_consensus=consensus)

    def refer(self) -> Reference:
        """Finds out what the views together say, on a sample of them."""
        first, second = sample_halves(self.passes.num_views)
        sample = [*first, *second]
        reference = self._choose([first, second] if len(sample) >= LEAST_HALVED else [sample])
        for _ in range(self.settings.robust_rounds - 1 if reference.strength > 0 else 0):
            disagreement, reference.usual = self._compare([sample], [reference.latents], reference.trust)
            before, reference.trust = reference.trust, disagreement.trust(reference.strength)
            changes = zip(reference.trust, before, strict=True)
            if float(torch.cat([(now - then).abs() for now, then in changes]).mean()) < SETTLED:
                break
            reference.sums = self._sums(sample, reference.trust)
        return reference

    def _choose(self, parts: list[Sequence[int]]) -> Reference:
        """Decides on the halves of a sample how hard regions are judged; with one part, with full strength."""
        sums = [self._sums(part, None) for part in parts]
        disagreement, usual = self._compare(parts, [unit_or_zero(one[..., :-1]) for one in sums], None)
        first = len(parts[0])

        def judged(strength: float) -> tuple[Reference, list[Tensor]]:
            trust = disagreement.trust(strength)
            sums = [self._sums(part, own) for part, own in zip(parts, (trust[:first], trust[first:]), strict=False)]
            return Reference(_add_up(sums), trust, usual, strength), sums

        if len(parts) == 1:
            return judged(1.0)[0]
        plain_sums, plain = sums, self._left_out(parts, sums)
        for strength in STRENGTHS:
            found, sums = judged(strength)
            if self._left_out(parts, sums) <= WORST * plain:
                return found
        return Reference(_add_up(plain_sums), disagreement.trust(0.0), usual, 0.0)

    def _left_out(self, halves: list[Sequence[int]], sums: list[Tensor]) -> float:
        """Mean residual over the pixels of each half, given what the other half says."""
        totals = torch.zeros(2)
        for half, other in zip(halves, reversed(sums), strict=True):
            latents = unit_or_zero(other[..., :-1])
            answers, _ = self.passes.run(predict, half, latents, None, small=True, summed=False)
            totals += torch.stack(answers).sum(dim=0).cpu()
        return float(totals[0] / totals[1].clamp_min(1.0))

    def _sums(self, part: Sequence[int], trust: Trust | None) -> Tensor:
        """Adds up the latents of some small views."""
        return self.passes.run(add_latents, part, (self.shape, self.settings), trust, small=True, summed=True)[1]

    def _solve(self, part: Sequence[int], trust: Trust | None) -> LiftedLatents:
        """Joins whole views."""
        joined = LatentMean(*self.shape, self.settings)
        _, joined.sums = self.passes.run(
            add_latents, part, (self.shape, self.settings), trust, small=False, summed=True
        )
        joined.num_views = len(part)
        return joined.solve()

    def _compare(
        self, parts: list[Sequence[int]], latents: list[Tensor], trust: Trust | None
    ) -> tuple[Disagreement, Tensor]:
        """Compares parts of the views, each with its own latents; gives what is usual on all Gaussians, too."""
        residuals: list[Tensor] = []
        sums = []
        for part, said in zip(parts, latents, strict=True):
            found, added = self.passes.run(add_residuals, part, said, trust, small=True, summed=True)
            residuals += found
            sums.append(added)
        usual = usual_residuals(_add_up(sums))
        sample = [number for part in parts for number in part]
        expected, _ = self.passes.run(find_usual, sample, usual, None, small=True, summed=False)
        return Disagreement(residuals, expected), usual

    def _report(self, part: Sequence[int], reference: Reference) -> list[RegionReport]:
        """Compares views that need not be in the sample with what the sample says."""
        shared = reference.latents, reference.usual
        answers, _ = self.passes.run(report_regions, part, shared, None, small=True, summed=False)
        return [RegionReport.unpacked(answer, self.shape[2]) for answer in answers]

    def _look(self, part: Sequence[int], latents: Tensor) -> list[RegionConsensus]:
        """Tells what latents say of the regions of some views."""
        answers, _ = self.passes.run(look_at_regions, part, latents, None, small=True, summed=False)
        return [RegionConsensus.unpacked(answer, self.shape[2]) for answer in answers]


def sample_halves(num_views: int) -> tuple[list[int], list[int]]:
    """Numbers of the views of the sample, in two halves that see the same places; the same each time."""
    count = min(num_views, max(LEAST_SAMPLE, ceil(num_views / SAMPLE_SHARE)))
    sample = [number * num_views // count for number in range(count)]
    return sample[::2], sample[1::2]


def _add_up(sums: list[Tensor]) -> Tensor:
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    return total


def most_views(num_views: int, rounds: int) -> int:
    """How many views `Refinement.lift` goes through at most."""
    if rounds == 0:
        return 2 * num_views
    sample = sum(map(len, sample_halves(num_views)))
    return 3 * num_views + sample * (3 * rounds + 1 + 2 * len(STRENGTHS))


@torch.no_grad()
def lift_latents(
    views: ViewWalk,
    num_gaussians: int,
    levels: int,
    latent_dim: int,
    settings: LiftSettings,
    device: torch.device | str = "cpu",
    judged: ViewWalk | None = None,
    remember: bool = False,
) -> LiftedLatents:
    """Lifts the latents of all views onto the Gaussians, in this process.

    Args:
        views: The labeled views, the same each time they are asked for.
        num_gaussians: How many Gaussians they composite.
        levels: Levels of their regions.
        latent_dim: Width of their latents.
        settings: How.
        device: Where the latents lie.
        judged: The same views in small, on which regions are judged; None for the views themselves.
        remember: Whether to tell what the views together say of each region, of which a memory is made.

    Raises:
        GenLangSplatError: There is no Gaussian, or no view has a region that falls on one.
    """
    total = most_views(len(views), settings.robust_rounds)
    with progress_bar("Lifting latents", total) as bar:
        passes = LocalPasses(views, views if judged is None else judged, device, bar)
        lifted = Refinement(passes, (num_gaussians, levels, latent_dim), settings, remember).lift()
        bar.move_to(total)
    if settings.gradient_steps > 0:
        walk = [views[number] for number in range(len(views))] if not isinstance(views, Iterable) else views
        sharpened = sharpen(walk, lifted, lifted.region_weights, settings.gradient_steps, settings.damping)
        lifted = replace(lifted, latents=sharpened.latents, mass=sharpened.mass)
    return lifted


@dataclass(frozen=True)
class LocalPasses:
    """All views in this process, one after the other."""

    views: ViewWalk
    """The views."""
    judged: ViewWalk
    """The same in small."""
    device: torch.device | str
    """Where the latents lie."""
    bar: Bar
    """Moves with every view of every pass."""

    @property
    def num_views(self) -> int:
        """How many views there are."""
        return len(self.views)

    def run(
        self, job: Job, part: Sequence[int], shared: Any, own: list[Tensor] | None, small: bool, summed: bool
    ) -> tuple[list[Tensor], Tensor]:
        """Does a job, see `LiftPasses`."""
        return job(self._walk(self.judged if small else self.views, part), shared, own, self.device)

    def _walk(self, views: ViewWalk, part: Sequence[int]) -> Iterator[RegionView]:
        for number in part:
            yield views[number]
            self.bar.advance()
