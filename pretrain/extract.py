"""From the frames of a source to embeddings in shards, on this machine or on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal

from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.progress import progress_bar
from genlangsplat_ns.utils.ray import RaySettings
from pretrain.frame_worker import FrameModels, FrameResult, FrameWorker
from pretrain.ray_engine import ray_results
from pretrain.shard_writer import FLUSH_SECONDS, ShardWriter
from pretrain.shards import SHARD_ROWS, ShardFolder
from pretrain.sources import Frame, FrameSource

Engine = Literal["local", "ray"]
"""Where frames are worked on: in this process, or by the actors of a Ray cluster."""


def extract_shards(
    source: FrameSource,
    folder: Path,
    models: FrameModels | FeatureSettings,
    engine: Engine = "local",
    ray_settings: RaySettings | None = None,
    limit: int | None = None,
    retry_failed: bool = False,
    shard_rows: int = SHARD_ROWS,
    flush_seconds: float = FLUSH_SECONDS,
) -> ShardFolder:
    """Sees to it that a folder of shards holds the embeddings of every frame of a source.

    Frames that are there already are not touched; a run that was killed goes on where it stopped. Frames that cannot be
    read or embedded are recorded with the reason, and left alone by later runs.

    Args:
        source: Gives the frames.
        folder: The folder; it may hold those of other sources already.
        models: Masks and encoder.
        engine: local or ray.
        ray_settings: How ray spreads the work; None for two workers on this machine.
        limit: Only so many frames, the first ones of the source.
        retry_failed: Try those again that failed in an earlier run.
        shard_rows: Rows of a full shard.
        flush_seconds: How long results wait in memory at most, and so what a kill may cost.

    Returns:
        The folder as it is then.

    Raises:
        GenLangSplatError: If the source has no frame, a model cannot be loaded, the folder is in use, for another
            encoder or not to be written, every frame failed, or Ray is missing or breaks down.
    """
    if limit is not None and limit < 1:
        raise GenLangSplatError(f"An extraction needs at least one frame, got limit={limit}.")
    frames = source.frames()[:limit]
    if not frames:
        raise GenLangSplatError(f"The source {source.name} has no frame. Name a folder that holds some.")
    if isinstance(models, FeatureSettings):
        models = FrameModels.from_settings(models)
    with ShardWriter.open(folder, models.identity, source.name, shard_rows, flush_seconds) as writer:
        missing = [
            frame for frame in frames if not writer.done(frame.key) and (retry_failed or not writer.failed(frame.key))
        ]
        stored = sum(writer.done(frame.key) for frame in frames)
        CONSOLE.print(f"Embeddings: {stored} of {len(frames)} frames are stored in {escape(str(folder))}")
        if missing:
            started, rows_before = time.perf_counter(), writer.num_rows
            _collect(writer, missing, _results(engine, source, models, missing, ray_settings or RaySettings()))
            _report(writer, missing, writer.num_rows - rows_before, time.perf_counter() - started)
        _check_any_succeeded(writer, frames)
    return ShardFolder.read(folder)


def _results(
    engine: Engine, source: FrameSource, models: FrameModels, frames: Sequence[Frame], settings: RaySettings
) -> Generator[FrameResult, None, None]:
    if engine == "ray":
        return ray_results(source, models, frames, settings)
    return local_results(source, models, frames)


def local_results(
    source: FrameSource, models: FrameModels, frames: Sequence[Frame]
) -> Generator[FrameResult, None, None]:
    """Works on the frames in this process; one thread reads the next frame meanwhile.

    Raises:
        GenLangSplatError: If a model cannot be loaded, or the encoder is not the one that was announced.
    """
    worker = FrameWorker(source, models)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="frames") as reader:
        reading = reader.submit(worker.load, frames[0])
        for number, frame in enumerate(frames):
            image = reading.result()
            if number + 1 < len(frames):
                reading = reader.submit(worker.load, frames[number + 1])
            yield worker.embed(frame, image)


def _collect(writer: ShardWriter, frames: Sequence[Frame], results: Generator[FrameResult, None, None]) -> None:
    """Hands results to the writer, behind a progress bar."""
    failed = 0
    with closing(results), progress_bar("Extracting embeddings", len(frames)) as bar:
        for done, result in enumerate(results, start=1):
            if result.failure:
                failed += 1
                writer.fail(result.frame.key, result.failure)
            else:
                writer.add(result.frame.key, result.frame.scene, result.embeddings, result.levels)
                failed += writer.failed(result.frame.key)
            bar.move_to(done)
            if failed:
                bar.describe(f"Extracting embeddings ({failed} failed)")


def _report(writer: ShardWriter, frames: Sequence[Frame], rows: int, seconds: float) -> None:
    failed = [frame.key for frame in frames if writer.failed(frame.key)]
    CONSOLE.print(
        f"Extracted {rows} embeddings of {len(frames) - len(failed)} frames in {seconds:.1f} s "
        f"({len(frames) / seconds:.2f} frames/s)"
    )
    for key in failed[:5]:
        CONSOLE.print(f"[yellow]{escape(key)} gave nothing: {escape(writer.reason(key))}")
    if len(failed) > 5:
        CONSOLE.print(f"[yellow]and {len(failed) - 5} more frames; the index names them all.")


def _check_any_succeeded(writer: ShardWriter, frames: Sequence[Frame]) -> None:
    if all(writer.failed(frame.key) for frame in frames):
        raise GenLangSplatError(
            f"All {len(frames)} frames failed; the first, {frames[0].key}, because: {writer.reason(frames[0].key)} "
            "Mend what is wrong, and run it again with failed frames retried."
        )
