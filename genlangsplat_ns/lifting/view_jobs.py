"""The passes over views that lifting consists of, as jobs that run in this process or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from genlangsplat_ns.lifting.average import average_views
from genlangsplat_ns.lifting.regions import RegionConsensus, RegionView
from genlangsplat_ns.lifting.residuals import (
    RegionStatistics,
    composite_latents,
    mean_in_regions,
    pixel_residual,
    sum_residuals,
)
from genlangsplat_ns.utils.progress import Bar

Views = Iterable[RegionView]
PerView = list[Tensor] | None
Device = torch.device | str
Result = TypeVar("Result")
"""What a job returns for each view: a tensor, or something else that `cpu()` moves to the CPU."""

JobResult = tuple[list[Result], Tensor]

Job = Callable[[Views, Any, PerView, Device], JobResult[Result]]
"""Processes some views.

It takes the views, an argument that all views share, one tensor for each view (or None), and the device. It returns one
result for each view, and sums over the views with one row for each Gaussian (or an empty tensor).
"""


@runtime_checkable
class ViewSequence(Protocol):
    """Labeled views that can be loaded repeatedly."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> RegionView: ...


@runtime_checkable
class JobRunner(Protocol):
    """Runs jobs on views."""

    @property
    def num_views(self) -> int:
        """Number of views."""

    def run(
        self, job: Job[Result], numbers: Sequence[int], shared: Any, per_view: PerView, small: bool, summed: bool
    ) -> JobResult[Result]:
        """Runs a job on views by number, downscaled ones if `small`; `summed` states whether the job returns sums."""


@dataclass(frozen=True)
class LocalRunner:
    """Runs jobs in this process, one view after the other."""

    views: ViewSequence
    small_views: ViewSequence
    device: Device
    bar: Bar
    """Advances by one with every view of every job."""

    @property
    def num_views(self) -> int:
        """Number of views."""
        return len(self.views)

    def run(
        self, job: Job[Result], numbers: Sequence[int], shared: Any, per_view: PerView, small: bool, summed: bool
    ) -> JobResult[Result]:
        """Runs a job, see `JobRunner`."""
        return job(self._load(self.small_views if small else self.views, numbers), shared, per_view, self.device)

    def _load(self, views: ViewSequence, numbers: Sequence[int]) -> Iterator[RegionView]:
        for number in numbers:
            yield views[number]
            self.bar.advance()


def sum_latents(
    views: Views, shape: tuple[int, int, int], region_weights: PerView, device: Device
) -> JobResult[Tensor]:
    """Job: sums the weighted latents and the weights."""
    average = average_views(views, region_weights, *shape, device)
    return [torch.zeros(0)] * average.num_views, average.sums


def sum_region_residuals(views: Views, latents: Tensor, region_weights: PerView, device: Device) -> JobResult[Tensor]:
    """Job: computes the residuals of the regions, and sums them on the Gaussians."""
    return sum_residuals(views, latents.to(device), region_weights)


def expected_in_regions(views: Views, expected: Tensor, _: PerView, device: Device) -> JobResult[Tensor]:
    """Job: computes the expected residual in each region from that of the Gaussians."""
    return [mean_in_regions(view, expected.to(device)) for view in views], torch.zeros(0)


def left_out_residuals(views: Views, latents: Tensor, _: PerView, device: Device) -> JobResult[Tensor]:
    """Job: computes the residuals of views against latents that were lifted without them."""
    return [pixel_residual(view, latents.to(device)) for view in views], torch.zeros(0)


def region_statistics(
    views: Views, shared: tuple[Tensor, Tensor], _: PerView, device: Device
) -> JobResult[RegionStatistics]:
    """Job: compares the regions with a sample; `shared` holds its latents and expected residuals of the Gaussians."""
    latents, expected = (tensor.to(device) for tensor in shared)
    return [RegionStatistics.of(view, latents, expected) for view in views], torch.zeros(0)


def region_consensus(views: Views, latents: Tensor, _: PerView, device: Device) -> JobResult[RegionConsensus]:
    """Job: computes the consensus on the regions of each view."""
    latents = latents.to(device)
    return [view.consensus(composite_latents(view, latents)) for view in views], torch.zeros(0)
