"""Extraction on a Ray cluster. Ray Data distributes frames to actors, with backpressure from the writer."""

from __future__ import annotations

import gc
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

import numpy as np
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.ray import RaySettings, connected
from pretrain.frame_worker import FrameModels, FrameResult, FrameWorker
from pretrain.sources import Frame, FrameSource

LOGGER = logging.getLogger(__name__)

TASK_RETRIES = 1
"""Number of times that Ray repeats the frames of a dead worker; without a limit it would repeat bad frames forever."""


class FrameActor:
    """Actor on the cluster that maps the name of a frame to its embeddings as bytes."""

    def __init__(self, source: FrameSource, models: FrameModels) -> None:
        # Ray restarts actors that fail to start forever, so errors are returned with the first row instead.
        self._problem = ""
        try:
            self._worker = FrameWorker(source, models)
        except GenLangSplatError as error:
            self._problem = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Processes one frame."""
        if self._problem:
            return {**row, "problem": self._problem, "failure": "", "embeddings": b"", "levels": b""}
        frame = Frame(row["key"], row["scene"])
        result = self._worker.embed(frame, self._worker.load(frame))
        return {
            **row,
            "problem": "",
            "failure": result.failure,
            "embeddings": result.embeddings.float().contiguous().numpy().tobytes(),
            "levels": result.levels.to(torch.uint8).contiguous().numpy().tobytes(),
        }


def ray_results(
    source: FrameSource, models: FrameModels, frames: Sequence[Frame], settings: RaySettings
) -> Generator[FrameResult, None, None]:
    """Processes the frames with actors; yields one result per frame, in any order.

    Frames of a dead worker are processed again. A frame that always kills its worker is returned as failed.

    Raises:
        GenLangSplatError: If Ray is missing, there is no cluster, a model cannot be loaded, or Ray fails.
    """
    with connected(settings.address):
        left = {frame.key: frame for frame in frames}
        per_task, alone = settings.items_per_task, False
        while left:
            handed_out = list(left.values())[: 1 if alone else None]
            for result in _one_pass(source, models, handed_out, settings, per_task):
                left.pop(result.frame.key)
                yield result
            lost = [frame for frame in handed_out if frame.key in left]
            if lost and per_task == len(handed_out) == 1:
                left.pop(lost[0].key)
                nothing = torch.zeros(0, models.identity.embedding_dim), torch.zeros(0, dtype=torch.uint8)
                yield FrameResult(lost[0], *nothing, failure="its worker died in every attempt")
            elif lost:
                LOGGER.warning("Workers died while processing %d frames; these are processed again.", len(lost))
            # Frames that shared a task or worker with a bad frame may be good.
            alone, per_task = len(lost) == len(handed_out), 1
            if lost:
                # Ray's ignored errors are in reference cycles with their workers, which would keep CPUs and GPUs.
                gc.collect()


def _one_pass(
    source: FrameSource, models: FrameModels, frames: Sequence[Frame], settings: RaySettings, per_task: int
) -> Iterator[FrameResult]:
    """Processes each frame once; frames of tasks whose worker died too often have no result."""
    import ray
    import ray.data

    # Ray's type annotations only accept functions.
    actor: Any = FrameActor
    by_key = {frame.key: frame for frame in frames}
    context = ray.data.DataContext.get_current()
    before = context.max_errored_blocks, context.enable_progress_bars
    # A data set keeps the settings from its creation. -1 means no limit.
    context.max_errored_blocks, context.enable_progress_bars = -1, False
    try:
        rows = [asdict(frame) for frame in frames]
        results = ray.data.from_items(rows, override_num_blocks=ceil(len(frames) / per_task)).map(
            actor,
            fn_constructor_kwargs={"source": source, "models": models},
            compute=ray.data.ActorPoolStrategy(size=min(settings.num_workers, len(frames))),
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            max_restarts=-1,
            max_task_retries=TASK_RETRIES,
        )
    finally:
        context.max_errored_blocks, context.enable_progress_bars = before
    try:
        for row in results.iter_rows():
            if row["problem"]:
                raise GenLangSplatError(row["problem"])
            yield _unpack(row, by_key[row["key"]], models.identity.embedding_dim)
    except ray.exceptions.RayError as error:
        raise GenLangSplatError(
            f"Ray failed ({type(error).__name__}: {error}). All embeddings extracted so far are stored. Check the "
            "cluster, then run the same command again to continue."
        ) from error


def _unpack(row: dict[str, Any], frame: Frame, embedding_dim: int) -> FrameResult:
    embeddings = np.frombuffer(row["embeddings"], dtype=np.float32).reshape(-1, embedding_dim)
    levels = np.frombuffer(row["levels"], dtype=np.uint8)
    return FrameResult(frame, torch.tensor(embeddings), torch.tensor(levels), row["failure"])
