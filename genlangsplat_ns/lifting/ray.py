"""Lifting on a Ray cluster: every task adds up what some views say, and a tree of sums joins the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.lifting.average import LiftedLatents, LiftSettings
from genlangsplat_ns.lifting.region_views import RegionViews
from genlangsplat_ns.lifting.robust import Job, Refinement, most_views
from genlangsplat_ns.utils.progress import Bar, progress_bar
from genlangsplat_ns.utils.ray import RaySettings, connected

GAUSSIANS_PER_CHUNK = 500_000
"""Sums travel and are added in chunks of this many Gaussians; Ray moves chunks to disk when memory is short."""


def lift_on_ray(
    views: RegionViews, shape: tuple[int, int, int], settings: LiftSettings, spread: RaySettings
) -> LiftedLatents:
    """Lifts latents as `lift_latents` does, with the views shared out over a cluster.

    Sums are joined in the order of the views, however tasks end, so the result is the same each time; it differs from
    that of one process by the rounding of sums alone. A task whose worker dies is done again. All machines must reach
    the feature store by the same path.

    A task holds the Gaussians (44 bytes each) and, with L levels of D channels, three times 4 L (D + 1) bytes for each:
    its sums, those of one view, and their copy for the others. For D = 16 and three levels that is 0.66 GB for a
    million Gaussians, beside the weights of one view.

    Args:
        views: The labeled views, on the CPU.
        shape: Gaussians, levels, width of a latent.
        settings: How; only means can be shared out.
        spread: How the views are spread.

    Returns:
        The latents, on the CPU.

    Raises:
        GenLangSplatError: The settings ask for what needs all views in one place, Ray is missing or fails, or the views
            cannot be lifted.
    """
    if settings.average != "mean" or settings.gradient_steps > 0:
        raise GenLangSplatError(
            f"Found the average {settings.average} and {settings.gradient_steps} gradient steps with the engine ray, "
            "which joins means alone. Use the engine local, or the average mean without gradient steps."
        )
    total = most_views(len(views), settings.robust_rounds)
    with connected(spread.address), progress_bar("Lifting", total) as bar:
        lifted = Refinement(RayPasses(views, shape[0], spread, bar), shape, settings, remember=True).lift()
        bar.move_to(total)
    return lifted


class RayPasses:
    """Jobs on views as tasks on a cluster; a cluster must be connected.

    Args:
        views: The labeled views, on the CPU.
        num_gaussians: How many rows sums have.
        spread: How the views are spread.
        bar: Moves with every view of every job.
    """

    def __init__(self, views: RegionViews, num_gaussians: int, spread: RaySettings, bar: Bar) -> None:
        import ray

        # A cache of weights stays behind: no task sees a view twice.
        self._views, self._small = (ray.put(replace(walk, cache=None)) for walk in (views, views.small()))
        self.num_views = len(views)
        self._num_gaussians, self._spread, self._bar = num_gaussians, spread, bar

    def run(
        self, job: Job, part: Sequence[int], shared: Any, own: list[Tensor] | None, small: bool, summed: bool
    ) -> tuple[list[Tensor], Tensor]:
        """Does a job in tasks, see `LiftPasses`."""
        import ray

        chunks = ceil(self._num_gaussians / GAUSSIANS_PER_CHUNK) if summed else 0
        work = ray.remote(_work).options(
            num_cpus=self._spread.num_cpus, num_gpus=self._spread.num_gpus, num_returns=1 + chunks
        )
        add = ray.remote(_add).options(num_cpus=self._spread.num_cpus)
        views, common = self._small if small else self._views, ray.put(shared)
        tasks = []
        chunk_rows = GAUSSIANS_PER_CHUNK if summed else 0
        for start in range(0, len(part), self._spread.items_per_task):
            some = slice(start, start + self._spread.items_per_task)
            said = None if own is None else own[some]
            returned: Any = work.remote(job, views, list(part[some]), common, said, chunk_rows, self._spread)
            tasks.append(returned if chunks else [returned])
        answers = [task[0] for task in tasks]
        joined = [_tree([task[1 + chunk] for task in tasks], add.remote) for chunk in range(chunks)]
        try:
            waiting = answers
            while waiting:
                done, waiting = ray.wait(waiting)
                self._bar.advance(sum(len(answer) for answer in ray.get(done)))
            found = [item for answer in ray.get(answers) for item in answer]
            sums = [torch.from_numpy(np.array(chunk)) for chunk in ray.get(joined)]
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, GenLangSplatError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            raise GenLangSplatError(
                f"Ray broke down ({type(error).__name__}: {error}). See to the cluster, or give tasks fewer views with "
                "--ray.items-per-task, and run the command again."
            ) from error
        return found, torch.cat(sums) if sums else torch.zeros(0)


def _work(
    job: Job,
    views: RegionViews,
    part: list[int],
    shared: Any,
    own: list[Tensor] | None,
    chunk_rows: int,
    spread: RaySettings,
) -> Any:
    """One task: its answer for each view, and where there are sums, these in chunks of Gaussians behind it."""
    device = "cuda" if spread.num_gpus > 0 else "cpu"
    own = None if own is None else [values.to(device) for values in own]
    answers, sums = job(views.part(part).to(device), shared, own, device)
    answers = [values.cpu() for values in answers]
    if chunk_rows == 0:
        return answers
    return [answers, *(chunk.cpu().numpy() for chunk in sums.split(chunk_rows))]


def _add(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first + second


def _tree(terms: list[Any], add: Callable[[Any, Any], Any]) -> Any:
    """Adds neighbors, then neighboring sums, until one is left."""
    while len(terms) > 1:
        pairs = [add(first, second) for first, second in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(terms) - len(terms) % 2 :]
    return terms[0]
