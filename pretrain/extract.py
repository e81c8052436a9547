"""Extracts the embeddings of a source's frames into shards, on this machine or on a Ray cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.utils.progress import progress_bar
from genlangsplat_ns.utils.ray import RaySettings
from pretrain.frame_worker import FrameModels, FrameResult, FrameWorker
from pretrain.ray_engine import ray_results
from pretrain.shard_writer import FLUSH_SECONDS, ShardWriter
from pretrain.shards import SHARD_ROWS, ShardFolder
from pretrain.sources import Frame, FrameSource

LOGGER = logging.getLogger(__name__)

Engine = Literal["local", "ray"]
"""Where frames are processed: in this process, or by the actors of a Ray cluster."""


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
    """Extracts the embeddings of all frames of a source that a folder of shards does not have.

    A killed run continues where it stopped. Frames that cannot be read or embedded are recorded with the reason, and
    skipped by later runs.

    Args:
        source: Source of the frames.
        folder: The folder; it may already contain frames of other sources.
        models: Masks and encoder.
        engine: Where frames are processed.
        ray_settings: Settings of the engine ray; None for the defaults.
        limit: Maximum number of frames, from the first one of the source.
        retry_failed: Whether to process frames again that failed in an earlier run.
        shard_rows: Rows of a full shard.
        flush_seconds: Maximum time for which results are kept in memory; a killed run loses at most these.

    Raises:
        GenLangSplatError: If the source has no frames, a model cannot be loaded, the folder is in use, not writable or
            of another encoder, every frame failed, or Ray is missing or fails.
    """
    if limit is not None and limit < 1:
        raise GenLangSplatError(f"An extraction needs at least one frame, got limit={limit}.")
    frames = source.frames()[:limit]
    if not frames:
        raise GenLangSplatError(f"The source {source.name} has no frames. Give a folder that contains some.")
    if isinstance(models, FeatureSettings):
        models = FrameModels.from_settings(models)
    with ShardWriter.open(folder, models.identity, source.name, shard_rows, flush_seconds) as writer:
        new = [frame for frame in frames if not writer.done(frame.key)]
        missing = [frame for frame in new if retry_failed or not writer.failed(frame.key)]
        LOGGER.info("Embeddings: %d of %d frames are stored in %s", len(frames) - len(new), len(frames), folder)
        if missing:
            started, rows_before = time.perf_counter(), writer.num_rows
            if engine == "ray":
                results = ray_results(source, models, missing, ray_settings or RaySettings())
            else:
                results = local_results(source, models, missing)
            _collect(writer, missing, results)
            _report(writer, missing, writer.num_rows - rows_before, time.perf_counter() - started)
        _check_any_succeeded(writer, frames)
    return ShardFolder.read(folder)


def local_results(
    source: FrameSource, models: FrameModels, frames: Sequence[Frame]
) -> Generator[FrameResult, None, None]:
    """Processes the frames in this process, while a thread reads the next frame.

    Raises:
        GenLangSplatError: If a model cannot be loaded, or the encoder is not the expected one.
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
    """Writes the results and shows a progress bar."""
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
    counts = rows, len(frames) - len(failed), seconds, len(frames) / seconds
    LOGGER.info("Extracted %d embeddings of %d frames in %.1f s (%.2f frames/s)", *counts)
    for key in failed[:5]:
        LOGGER.warning("%s failed: %s", key, writer.reason(key))
    if len(failed) > 5:
        LOGGER.warning("%d more frames failed; the index lists all of them.", len(failed) - 5)


def _check_any_succeeded(writer: ShardWriter, frames: Sequence[Frame]) -> None:
    if all(writer.failed(frame.key) for frame in frames):
        raise GenLangSplatError(
            f"All {len(frames)} frames failed. The reason for the first one, {frames[0].key}: "
            f"{writer.reason(frames[0].key)} Fix the cause, and run again with --retry-failed."
        )
