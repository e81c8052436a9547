"""From the frames of a source to embeddings in shards, on this machine or on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Integer, UInt8
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.console import CONSOLE, moving_bar
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder, load_encoder
from genlangsplat_ns.features.extract import view_features
from genlangsplat_ns.features.front_end import FrontEnd
from genlangsplat_ns.features.masks import MaskGenerator, load_mask_generator
from genlangsplat_ns.features.settings import FrontEndSettings
from genlangsplat_ns.levels import LEVELS
from pretrain.shard_writer import FLUSH_SECONDS, ShardWriter
from pretrain.shards import SHARD_ROWS, ShardFolder, ShardIdentity
from pretrain.sources import Frame, FrameSource
from pretrain.stored import row_levels

Engine = Literal["local", "ray"]
"""Where frames are worked on: in this process, or by the actors of a Ray cluster."""


@dataclass(frozen=True)
class FrameModels:
    """How frames become embeddings. It travels to other machines, so the models are loaded where they run.

    Attributes:
        identity: Whose embeddings they are.
        load_masks: Returns the mask generator.
        load_encoder: Returns the encoder.
    """

    identity: ShardIdentity
    load_masks: Callable[[], MaskGenerator]
    load_encoder: Callable[[], ImageTextEncoder]

    @classmethod
    def of_front_end(cls, settings: FrontEndSettings, device: str | None = None) -> FrameModels:
        """Resolves what is chosen about masks and encoder.

        Args:
            settings: What is asked for; `auto` is decided here and not by each worker, so that all take the same.
            device: Where the models run; None for CUDA where a worker has it.

        Raises:
            GenLangSplatError: If what is asked for does not exist.
        """
        front_end = FrontEnd(settings, device or _default_device())
        return cls(
            ShardIdentity.of_store(front_end.store_identity),
            partial(_load_masks, front_end.mask_name, settings, device),
            partial(_load_encoder, front_end.encoder_name, settings, device),
        )


@dataclass(frozen=True)
class RaySettings:
    """How the engine ray spreads the work.

    Attributes:
        address: The cluster; None for the one that the environment names, or else a new one on this machine.
        num_workers: Actors, each with models of its own.
        num_cpus: CPU cores of each.
        num_gpus: GPUs of each; a part of one lets several share it.
        frames_per_task: Frames handed out together; so many are done again at most when a worker dies.
    """

    address: str | None = None
    num_workers: int = 2
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    frames_per_task: int = 8


@dataclass(frozen=True)
class FrameResult:
    """What became of a frame: the embeddings and levels of its regions, or why there are none."""

    frame: Frame
    embeddings: Float[Tensor, "rows embedding_dim"]
    levels: Integer[Tensor, " rows"]
    failure: str = ""


class FrameWorker:
    """Turns frames into embeddings, with models that are loaded once.

    Raises:
        GenLangSplatError: If a model cannot be loaded, or the encoder is not the one that was announced.
    """

    def __init__(self, source: FrameSource, models: FrameModels) -> None:
        self._source = source
        self._masks, self._encoder = models.load_masks(), models.load_encoder()
        self._levels = [LEVELS.index(name) for name in models.identity.levels]
        found = (self._encoder.identity, self._encoder.embedding_dim)
        expected = (models.identity.encoder, models.identity.embedding_dim)
        if found != expected:
            raise GenLangSplatError(
                f"The encoder is {found[0]} with {found[1]} dimensions, but {expected[0]} with {expected[1]} was "
                "announced. Install the same packages and weights on all machines."
            )

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"] | str:
        """Reads the pixels of a frame, or says why they cannot be read."""
        try:
            return self._source.load(frame)
        except GenLangSplatError as error:
            return str(error)

    def embed(self, frame: Frame, image: UInt8[Tensor, "height width 3"] | str) -> FrameResult:
        """Finds and embeds the regions of what `load` gave. A frame the models cannot take is no reason to stop."""
        nothing = torch.zeros(0, self._encoder.embedding_dim), torch.zeros(0, dtype=torch.uint8)
        if isinstance(image, str):
            return FrameResult(frame, *nothing, failure=image)
        try:
            features = view_features(image, self._masks, self._encoder, self._levels)
        except (GenLangSplatError, RuntimeError, ValueError, IndexError) as error:
            return FrameResult(frame, *nothing, failure=f"{type(error).__name__}: {error}")
        embeddings = features.embeddings.cpu()
        return FrameResult(frame, embeddings, row_levels(features.regions, len(embeddings)))


def extract_shards(
    source: FrameSource,
    folder: Path,
    models: FrameModels | FrontEndSettings,
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
    if isinstance(models, FrontEndSettings):
        models = FrameModels.of_front_end(models)
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
        _refuse_nothing(writer, frames)
    return ShardFolder.read(folder)


def _results(
    engine: Engine, source: FrameSource, models: FrameModels, frames: Sequence[Frame], settings: RaySettings
) -> Generator[FrameResult, None, None]:
    if engine == "ray":
        from pretrain.ray_engine import ray_results

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
    with closing(results), moving_bar("Extracting embeddings", len(frames)) as bar:
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


def _refuse_nothing(writer: ShardWriter, frames: Sequence[Frame]) -> None:
    if all(writer.failed(frame.key) for frame in frames):
        raise GenLangSplatError(
            f"All {len(frames)} frames failed; the first, {frames[0].key}, because: {writer.reason(frames[0].key)} "
            "Mend what is wrong, and run it again with failed frames retried."
        )


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load_masks(name: str, settings: FrontEndSettings, device: str | None) -> MaskGenerator:
    return load_mask_generator(name, settings.sam, device or _default_device(), settings.download_weights)


def _load_encoder(name: str, settings: FrontEndSettings, device: str | None) -> ImageTextEncoder:
    return load_encoder(name, device or _default_device(), settings.open_clip, settings.download_weights)
