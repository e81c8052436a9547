"""Extracts the embeddings of a source's frames into files, on this machine or on a Ray cluster.

A scene is written when all its frames are done. Frames that a file has are never processed again, so a killed run
continues with the first scene that has no file.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from jaxtyping import Bool, Float, Float16, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity
from genlangsplat_ns.utils.progress import progress_bar
from genlangsplat_ns.utils.ray import RaySettings
from genlangsplat_ns.utils.unfinished import remove_abandoned
from pretrain.frame_worker import FrameModels, FrameResult, FrameWorker, row_levels
from pretrain.ray_engine import ray_results
from pretrain.scene_files import REPAIR, DamagedFileError, SceneFile, scene_paths, source_path, write_scene
from pretrain.sources import Frame, FrameSource

LOGGER = logging.getLogger(__name__)

SCENE_FRAMES = 300
"""Maximum number of frames of a file. The longest scene of ScanNet has fewer at the default stride."""

DUPLICATE_COSINE = 0.9999
"""Cosine above which rows of one frame are duplicates: the same region at two levels."""

Engine = Literal["local", "ray"]
"""Where frames are processed: in this process, or by the actors of a Ray cluster."""

Process = Callable[[Sequence[Frame]], Generator[FrameResult, None, None]]
"""Returns one result per frame, in any order."""


def extract_embeddings(
    source: FrameSource,
    folder: Path,
    models: FrameModels,
    engine: Engine = "local",
    ray_settings: RaySettings | None = None,
    limit: int | None = None,
    retry_failed: bool = False,
) -> None:
    """Extracts the embeddings of all frames of a source (at most the first `limit`) that a folder does not have.

    Frames that cannot be read or embedded are recorded with the reason. Later runs skip them unless `retry_failed`.

    Raises:
        GenLangSplatError: If the source has no frames, a model cannot be loaded, the folder is in use, not writable or
            of another encoder, every frame failed, or Ray is missing or fails.
    """
    if limit is not None and limit < 1:
        raise GenLangSplatError(f"An extraction needs at least one frame, got limit={limit}. Raise it.")
    frames = source.frames()[:limit]
    process = partial(local_results, source, models)
    if engine == "ray":
        process = partial(ray_results, source, models, settings=ray_settings or RaySettings())
    add_frames(folder, models.identity, source.name, frames, process, retry_failed)


def ingest_store(store_folder: Path, folder: Path, retry_failed: bool = False) -> None:
    """Copies the embeddings of a feature store, the folder SCENE/language_features/STORE.

    Raises:
        GenLangSplatError: If it is not a feature store or has no intact view; others as of `extract_embeddings`.
    """
    store = FeatureStore.existing(store_folder.absolute())
    place = store.folder.resolve()
    scene = place.parents[1].name if place.parent.name == "language_features" else place.name

    def process(frames: Sequence[Frame]) -> Generator[FrameResult, None, None]:
        for frame in frames:
            try:
                features = store.load(frame.key)
            except GenLangSplatError as error:
                yield FrameResult.failed(frame, str(error))
                continue
            levels = row_levels(features.regions, len(features.embeddings))
            yield FrameResult(frame, features.embeddings[levels >= 0], levels[levels >= 0])

    frames = [Frame(key, scene) for key in store.keys()]  # noqa: SIM118 - not a mapping
    add_frames(folder, store.identity, scene, frames, process, retry_failed)


def add_frames(
    folder: Path,
    identity: StoreIdentity,
    source: str,
    frames: Sequence[Frame],
    process: Process,
    retry_failed: bool = False,
) -> None:
    """Processes the frames that a folder does not have, and adds them; errors as of `extract_embeddings`."""
    if not frames:
        raise GenLangSplatError(f"The source {source} has no frames. Give a folder that contains some.")
    with _locked(folder):
        files = _intact_files(folder, identity, source)
        stored = {key for file in files for key in file.frames}
        failed = {key: reason for file in files for key, reason in file.failed.items()}
        skipped = stored if retry_failed else stored | failed.keys()
        missing = [frame for frame in frames if frame.key not in skipped]
        LOGGER.info("Embeddings: %d of %d frames are stored in %s", len(frames) - len(missing), len(frames), folder)
        started = time.perf_counter()
        for file in _write_scenes(folder, identity, source, missing, process):
            stored |= file.frames.keys()
            failed |= file.failed
    failed = {frame.key: failed[frame.key] for frame in frames if frame.key not in stored}
    if missing:
        seconds = time.perf_counter() - started
        LOGGER.info("Extracted %d frames in %.1f s, %d failed", len(missing), seconds, len(failed))
    for key in list(failed)[:5]:
        LOGGER.warning("%s failed: %s", key, failed[key])
    if len(failed) > 5:
        LOGGER.warning("%d more frames failed; the metadata of the files lists all of them.", len(failed) - 5)
    if len(failed) == len(frames):
        raise GenLangSplatError(
            f"All {len(frames)} frames failed. The reason for the first one, {frames[0].key}: "
            f"{failed[frames[0].key]} Fix the cause, and run again with --retry-failed."
        )


def local_results(
    source: FrameSource, models: FrameModels, frames: Sequence[Frame]
) -> Generator[FrameResult, None, None]:
    """Processes the frames in this process, while a thread reads the next frame."""
    worker = FrameWorker(source, models)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="frames") as reader:
        reading = reader.submit(worker.load, frames[0])
        for number, frame in enumerate(frames):
            image = reading.result()
            if number + 1 < len(frames):
                reading = reader.submit(worker.load, frames[number + 1])
            yield worker.embed(frame, image)


def _write_scenes(
    folder: Path, identity: StoreIdentity, source: str, frames: Sequence[Frame], process: Process
) -> Iterator[SceneFile]:
    """Processes frames scene by scene, and writes a file when all of its frames are done."""
    if not frames:
        return
    scenes: defaultdict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        scenes[frame.scene].append(frame)
    groups = [
        scene[first : first + SCENE_FRAMES] for scene in scenes.values() for first in range(0, len(scene), SCENE_FRAMES)
    ]
    group_of = {frame.key: number for number, group in enumerate(groups) for frame in group}
    waiting: defaultdict[int, list[FrameResult]] = defaultdict(list)
    failed = 0
    with (
        closing(process([frame for group in groups for frame in group])) as results,
        progress_bar("Extracting embeddings", len(frames)) as bar,
    ):
        for done, result in enumerate(results, start=1):
            number = group_of[result.frame.key]
            waiting[number].append(result)
            if len(waiting[number]) == len(groups[number]):
                finished = sorted(waiting.pop(number), key=lambda result: result.frame)
                file = _write(folder, identity, source, finished)
                failed += len(file.failed)
                yield file
            bar.move_to(done)
            if failed:
                bar.describe(f"Extracting embeddings ({failed} failed)")


def _write(folder: Path, identity: StoreIdentity, source: str, results: Sequence[FrameResult]) -> SceneFile:
    frames: dict[str, tuple[Float16[Tensor, "_ embedding_dim"], UInt8[Tensor, " _"]]] = {}
    failed: dict[str, str] = {}
    for result in results:
        norms = torch.linalg.vector_norm(result.embeddings.float(), dim=1, keepdim=True)
        bad = int((~((norms > 0) & norms.isfinite())).sum())
        failure = result.failure or (f"{bad} of {len(norms)} embeddings are zero or not finite" if bad else "")
        if failure:
            failed[result.frame.key] = failure
            continue
        units = (result.embeddings.float() / norms).half()
        kept = without_duplicates(units)
        frames[result.frame.key] = units[kept], result.levels[kept].to(torch.uint8)
    return write_scene(folder, identity, source, results[0].frame.scene, frames, failed)


def without_duplicates(units: Float16[Tensor, "rows embedding_dim"]) -> Bool[Tensor, " rows"]:
    """Returns which rows of a frame are no duplicates of an earlier row that is kept."""
    rows: Float[Tensor, "rows embedding_dim"] = torch.nn.functional.normalize(units.float(), dim=1)
    kept = torch.ones(len(rows), dtype=torch.bool)
    near = (rows @ rows.T > DUPLICATE_COSINE).tril(diagonal=-1)
    for row in near.any(dim=1).nonzero().flatten().tolist():
        kept[row] = not bool((near[row] & kept).any())
    return kept


def _intact_files(folder: Path, identity: StoreIdentity, source: str) -> list[SceneFile]:
    """Reads and checks the files of a source; damaged ones are renamed, so that their frames are extracted again.

    Files of other sources are only compared with the identity, because this run cannot make them anew.
    """
    files = []
    for path in scene_paths(folder):
        is_own = path.parent == source_path(folder, source)
        try:
            file = SceneFile.read(path)
            is_own = file.source == source
            if is_own:
                file.verify()
        except DamagedFileError as error:
            reason = str(error).removesuffix(f" {REPAIR}")
            if is_own:
                LOGGER.warning("%s Its frames are extracted anew.", reason)
                path.replace(path.with_name(f"{path.name}.damaged"))
            else:
                LOGGER.warning("%s Extract its source again, which makes it anew.", reason)
            continue
        for name, ours in vars(identity).items():
            theirs = vars(file.identity)[name]
            if ours != theirs:
                raise GenLangSplatError(
                    f"{path} has embeddings with {name} {theirs}, but those to add have {name} {ours}. Choose another "
                    "folder; training can read several folders."
                )
        if is_own:
            files.append(file)
    return files


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks a folder and deletes leftovers of killed writers; the operating system releases a killed process's lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise GenLangSplatError(
            f"Another process is writing to {folder}. Wait until it finishes, or choose another folder."
        ) from error
    except OSError as error:
        raise GenLangSplatError(
            f"{folder} cannot be written ({error.strerror or error}). Fix the permissions, or choose another folder."
        ) from error
    with lock:
        for below in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            remove_abandoned(below)
        yield
