"""Extraction on a Ray cluster: Ray Data hands frames to actors, and holds them back while the writer is busy."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

import numpy as np
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.ray import RaySettings, connected
from pretrain.frame_worker import FrameModels, FrameResult, FrameWorker
from pretrain.sources import Frame, FrameSource

TASK_RETRIES = 1
"""How often Ray itself repeats the frames of a worker that died; without end, one bad frame would last for ever."""


class FrameActor:
    """What runs on the cluster: a frame's name goes in, and its embeddings come out as bytes."""

    def __init__(self, source: FrameSource, models: FrameModels) -> None:
        # An actor that fails to start is started again for ever. It tells why instead.
        self._problem = ""
        try:
            self._worker = FrameWorker(source, models)
        except GenLangSplatError as error:
            self._problem = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Works on one frame."""
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
    """Works on the frames by actors; results come in any order, and one for every frame.

    Frames of a worker that died are handed out again. A frame that kills its worker each time, alone at last, is given
    back as failed.

    Raises:
        GenLangSplatError: If Ray is missing, there is no cluster, a model cannot be loaded, or Ray breaks down.
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
                yield FrameResult(lost[0], *nothing, failure="its worker died at every try")
            elif lost:
                CONSOLE.print(f"[yellow]Workers died over {len(lost)} frames; these are handed out again.")
            # Frames that shared a task or a worker with a bad one are innocent.
            alone, per_task = len(lost) == len(handed_out), 1
            if lost:
                # Errors that Ray passed over lie in cycles with their workers, which keep CPUs and GPUs until then.
                gc.collect()


def _one_pass(
    source: FrameSource, models: FrameModels, frames: Sequence[Frame], settings: RaySettings, per_task: int
) -> Iterator[FrameResult]:
    """Hands out every frame once; those of tasks whose worker died too often are left out of the results."""
    import ray
    import ray.data

    # Ray's own annotations know functions only.
    actor: Any = FrameActor
    by_key = {frame.key: frame for frame in frames}
    context = ray.data.DataContext.get_current()
    before = context.max_errored_blocks, context.enable_progress_bars
    # A data set keeps the settings it is made under. -1 is without limit.
    context.max_errored_blocks, context.enable_progress_bars = -1, False
    try:
        results = ray.data.from_items(
            [asdict(frame) for frame in frames], override_num_blocks=ceil(len(frames) / per_task)
        ).map(
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
            f"Ray broke down ({type(error).__name__}: {error}). What was extracted so far is stored; see to the "
            "cluster, and run the same command again: it goes on from there."
        ) from error


def _unpack(row: dict[str, Any], frame: Frame, embedding_dim: int) -> FrameResult:
    embeddings = np.frombuffer(row["embeddings"], dtype=np.float32).reshape(-1, embedding_dim)
    levels = np.frombuffer(row["levels"], dtype=np.uint8)
    return FrameResult(frame, torch.tensor(embeddings), torch.tensor(levels), row["failure"])
