"""Lifting on a Ray cluster: every task sums some views, and a tree adds up the sums of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.lifting.region_views import RegionViews
from genlangsplat_ns.lifting.robust import RobustLift, max_view_visits
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.lifting.view_jobs import Job, JobResult, PerView, Result
from genlangsplat_ns.utils.progress import Bar, progress_bar
from genlangsplat_ns.utils.ray import RaySettings, connected

GAUSSIANS_PER_CHUNK = 500_000
"""Sums travel and are added in chunks of this many Gaussians; Ray moves chunks to disk when memory is short."""

ADVICE = "Check the cluster, or give each task fewer views with --ray.items-per-task, and run the command again."
"""What to do if Ray fails."""


def lift_on_ray(
    views: RegionViews, shape: tuple[int, int, int], settings: LiftSettings, spread: RaySettings
) -> LiftedLatents:
    """Lifts latents like `lift_latents`, with the views distributed over a cluster.

    Sums are added in the order of the views, in whatever order the tasks end, so the result is deterministic. It
    differs from the result of one process only by the rounding of sums. Ray repeats a task whose worker dies. All
    machines must reach the feature store by the same path.

    A task holds the Gaussians (44 bytes each) and, with L levels of D channels, three times 4 L (D + 1) bytes for each:
    its sums, those of one view, and the copy that it returns. With D = 16 and three levels that is 0.66 GB for a
    million Gaussians, plus the weights of one view.

    Views and result are on the CPU; `shape` is the number of Gaussians, the number of levels, and the latent width.

    Raises:
        GenLangSplatError: Ray is missing or fails, or the views cannot be lifted.
    """
    total = max_view_visits(len(views), settings.robust_rounds)
    with connected(spread.address, ADVICE), progress_bar("Lifting", total) as bar:
        lifted = RobustLift(RayRunner(views, shape[0], spread, bar), shape, settings, with_consensus=True).lift()
        bar.move_to(total)
    return lifted


class RayRunner:
    """Runs jobs on views (on the CPU) as tasks on a connected cluster; `bar` counts the views of all jobs."""

    def __init__(self, views: RegionViews, num_gaussians: int, spread: RaySettings, bar: Bar) -> None:
        import ray

        # The cache of weights is not sent, because no task uses a view twice.
        self._views, self._small = (ray.put(replace(some, cache=None)) for some in (views, views.small()))
        self.num_views = len(views)
        self._num_gaussians, self._spread, self._bar = num_gaussians, spread, bar

    def run(
        self, job: Job[Result], numbers: Sequence[int], shared: Any, per_view: PerView, small: bool, summed: bool
    ) -> JobResult[Result]:
        """Runs a job in tasks, see `JobRunner`."""
        import ray

        chunks = ceil(self._num_gaussians / GAUSSIANS_PER_CHUNK) if summed else 0
        chunk_rows = GAUSSIANS_PER_CHUNK if summed else 0
        device = "cuda" if self._spread.num_gpus > 0 else "cpu"
        process = ray.remote(_process).options(
            num_cpus=self._spread.num_cpus, num_gpus=self._spread.num_gpus, num_returns=1 + chunks
        )
        add = ray.remote(_add).options(num_cpus=self._spread.num_cpus)
        views, common = self._small if small else self._views, ray.put(shared)
        tasks = []
        for start in range(0, len(numbers), self._spread.items_per_task):
            some = slice(start, start + self._spread.items_per_task)
            own = None if per_view is None else per_view[some]
            returned: Any = process.remote(job, views, list(numbers[some]), common, own, chunk_rows, device)
            tasks.append(returned if chunks else [returned])
        results = [task[0] for task in tasks]
        totals = [_tree_sum([task[1 + chunk] for task in tasks], add.remote) for chunk in range(chunks)]
        waiting = results
        while waiting:
            done, waiting = ray.wait(waiting)
            self._bar.advance(sum(len(result) for result in ray.get(done)))
        found = [item for result in ray.get(results) for item in result]
        sums = [torch.from_numpy(np.array(chunk)) for chunk in ray.get(totals)]
        return found, torch.cat(sums) if sums else torch.zeros(0)


def _process(
    job: Job[Any], views: RegionViews, numbers: list[int], shared: Any, per_view: PerView, rows: int, device: str
) -> Any:
    """One task. Returns one result per view, followed by the sums in chunks of `rows` Gaussians unless that is 0."""
    per_view = None if per_view is None else [values.to(device) for values in per_view]
    results, sums = job(views.subset(numbers).to(device), shared, per_view, device)
    results = [values.cpu() for values in results]
    return [results, *(chunk.cpu().numpy() for chunk in sums.split(rows))] if rows else results


def _add(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return first + second


def _tree_sum(terms: list[Any], add: Callable[[Any, Any], Any]) -> Any:
    """Adds neighboring terms, then neighboring sums, until one is left."""
    while len(terms) > 1:
        pairs = [add(first, second) for first, second in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(terms) - len(terms) % 2 :]
    return terms[0]
