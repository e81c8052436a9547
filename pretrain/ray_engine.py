"""Extraction on a Ray cluster: actors with their own models take frames in turn."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Generator, Sequence
from typing import Any

from genlangsplat_ns.utils.ray import RaySettings, connected
from pretrain.frame_worker import FrameModels, FrameResult, FrameWorker
from pretrain.sources import Frame, FrameSource

LOGGER = logging.getLogger(__name__)

ATTEMPTS = 2
"""Number of times that a frame may kill its worker while it is processed alone."""

ADVICE = "All complete scenes are stored. Check the cluster, then run the same command again to continue."
"""What to do if Ray fails."""


def ray_results(
    source: FrameSource, models: FrameModels, frames: Sequence[Frame], settings: RaySettings
) -> Generator[FrameResult, None, None]:
    """Processes the frames with actors; yields one result per frame, in any order.

    Frames of a dead worker are processed again, one by one. A frame that always kills its worker is returned as failed.

    Raises:
        GenLangSplatError: If Ray is missing, there is no cluster, a model cannot be loaded, or Ray fails.
    """
    size = settings.items_per_task
    waiting = deque(list(frames[first : first + size]) for first in range(0, len(frames), size))
    deaths: Counter[str] = Counter()
    running: dict[Any, tuple[Any, list[Frame]]] = {}
    with connected(settings.address, ADVICE):
        import ray

        make: Any = ray.remote(FrameWorker).options(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus)
        shared = ray.put(source), ray.put(models)
        idle = [make.remote(*shared) for _ in range(min(settings.num_workers, len(waiting)))]
        try:
            while waiting or running:
                while waiting and idle:
                    actor, task = idle.pop(), waiting.popleft()
                    running[actor.process.remote(task)] = actor, task
                (done,), _ = ray.wait(list(running), num_returns=1)
                actor, task = running.pop(done)
                try:
                    results = ray.get(done)
                    idle.append(actor)
                except ray.exceptions.RayActorError:
                    LOGGER.warning("A worker died while processing %d frames.", len(task))
                    idle.append(make.remote(*shared))
                    deaths.update(frame.key for frame in task if len(task) == 1)
                    results = [
                        FrameResult.failed(frame, "its worker died in every attempt")
                        for frame in task
                        if deaths[frame.key] == ATTEMPTS
                    ]
                    waiting.extend([frame] for frame in task if deaths[frame.key] < ATTEMPTS)
                yield from results
        finally:
            for actor in (*idle, *(actor for actor, _ in running.values())):
                ray.kill(actor)
