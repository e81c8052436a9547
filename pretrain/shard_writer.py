"""Writes shards frame by frame, so that a killed run can continue.

Rows are kept in memory until a shard is full or a flush interval has passed. Then they are written to a shard, and the
index is updated. A killed run loses the frames since the last flush. The name of a partial shard contains its number of
rows, so that its longer replacement never overwrites a file that the index refers to.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Bool, Float, Float16, Integer, UInt8
from safetensors.numpy import save
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import atomic_path
from pretrain.shards import INDEX_NAME, SHARD_ROWS, Shard, ShardFolder, ShardIdentity, ShardIndex, ShardRows, ShardScene

FLUSH_SECONDS = 30.0
"""Flush interval in seconds; a killed run loses at most the rows since the last flush."""

DUPLICATE_COSINE = 0.9999
"""Cosine above which rows of one frame are duplicates: the same region at two levels."""

COMPARED_ROWS = 2048
"""Maximum number of rows of a frame that are compared with each other."""

FrameRows = tuple[str, str, Float[Tensor, "_ embedding_dim"], Integer[Tensor, " _"]]
"""Key and scene of a frame, its embeddings, and their levels."""


class ShardWriter:
    """Appends frames to a folder of shards. Create it with `ShardWriter.open`, in a `with` statement.

    The attribute `index` is the content of the index after the next `flush`.
    """

    def __init__(self, folder: Path, index: ShardIndex, source: str, flush_seconds: float, lock: FileLock) -> None:
        self.folder = folder
        self.index = index
        self._source = source
        self._flush_seconds = flush_seconds
        self._lock = lock
        self._frame_places = {name: place for place, name in enumerate(index.frames)}
        self._scene_places = {scene: place for place, scene in enumerate(index.scenes)}
        self._buffer = _last_shard_if_not_full(folder, index)
        self._num_buffered = sum(map(len, self._buffer))
        self._num_written = self._num_buffered
        self._changed = False
        self._flushed_at = time.monotonic()

    @classmethod
    def open(
        cls,
        folder: Path,
        identity: ShardIdentity,
        source: str,
        shard_rows: int = SHARD_ROWS,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> ShardWriter:
        """Opens or creates a folder for writing, and deletes leftovers of killed writers.

        Args:
            folder: The folder.
            identity: Identity of the embeddings to add.
            source: Name of the source of the frames to add; keys are unique within a source.
            shard_rows: Rows of a full shard; an existing folder keeps its value.
            flush_seconds: Maximum time for which rows are kept in memory.

        Raises:
            GenLangSplatError: If another process writes to the folder, it contains embeddings of another encoder or of
                other masks, it is damaged, or it is not writable.
        """
        if shard_rows < 1:
            raise GenLangSplatError(f"A shard needs at least one row, got shard_rows={shard_rows}.")
        lock = _lock(folder)
        try:
            return cls(folder, _prepare(folder, identity, shard_rows), source, flush_seconds, lock)
        except OSError as error:
            lock.release()
            raise _cannot_write(folder, error) from error
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except GenLangSplatError:
            if error is None:
                raise
        finally:
            self._lock.release()

    def done(self, key: str) -> bool:
        """Whether a frame of this source is stored, or will be with the next `flush`."""
        return self.index.frames.get(self._name(key)) is not None

    def failed(self, key: str) -> bool:
        """Whether a frame of this source is recorded as failed."""
        return self._name(key) in self.index.failed

    def reason(self, key: str) -> str:
        """Returns why a frame of this source failed; empty if it did not."""
        return self.index.failed.get(self._name(key), "")

    @property
    def num_rows(self) -> int:
        """Number of rows that are stored, or will be with the next `flush`."""
        return self.index.rows - self._num_written + self._num_buffered

    def add(
        self, key: str, scene: str, embeddings: Float[Tensor, "rows embedding_dim"], levels: Integer[Tensor, " rows"]
    ) -> None:
        """Adds the regions of a frame, unless the frame is already stored.

        Embeddings are normalized. Of nearly equal rows only the first is kept, at any level. If a row is zero or not
        finite, the frame is recorded as failed and nothing of it is stored.

        Raises:
            GenLangSplatError: If the embeddings have another width than the folder, or a shard cannot be written.
        """
        if self.done(key):
            return
        expected = self.index.identity.embedding_dim
        if embeddings.shape[1] != expected:
            raise GenLangSplatError(
                f"The embeddings of frame {key} have {embeddings.shape[1]} dimensions, but {self.folder} is for "
                f"{self.index.identity.encoder} with {expected}. Use another folder for another encoder."
            )
        values = embeddings.detach().cpu().float()
        norms = torch.linalg.vector_norm(values, dim=1, keepdim=True)
        unusable = ~((norms > 0) & norms.isfinite())
        if bool(unusable.any()):
            self.fail(key, f"{int(unusable.sum())} of {len(values)} embeddings are zero or not finite")
            return
        units = (values / norms).half().numpy()
        kept = _without_duplicates(units)
        self.index.duplicates += int((~kept).sum())
        kept_levels = levels.cpu().numpy().astype(np.uint8)[kept]
        self._append(self._name(key), ShardScene(self._source, scene), units[kept], kept_levels)
        self._flush_if_due()

    def fail(self, key: str, reason: str) -> None:
        """Records why a frame failed; raises GenLangSplatError if a shard cannot be written."""
        self.index.failed[self._name(key)] = reason
        self._changed = True
        self._flush_if_due()

    def flush(self) -> None:
        """Writes the rows in memory, then the index.

        Raises:
            GenLangSplatError: If writing fails; the folder then has its previous content.
        """
        if not self._changed:
            return
        replaced = self.index.shards[-1:] if self._num_written else []
        if self._num_buffered == self._num_written:
            shards, rest = replaced, self._buffer
        else:
            shards, rest = self._write_shards(len(self.index.shards) - len(replaced) + len(self.index.quarantined))
        index = replace(self.index, shards=[*self.index.shards[: len(self.index.shards) - len(replaced)], *shards])
        try:
            index.write(self.folder)
            for shard in replaced:
                if shard not in shards:
                    (self.folder / shard.file).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        self.index, self._buffer = index, rest
        self._num_buffered = self._num_written = sum(map(len, rest))
        self._changed = False
        self._flushed_at = time.monotonic()

    def _name(self, key: str) -> str:
        return f"{self._source}/{key}"

    def _append(
        self, frame: str, scene: ShardScene, units: Float16[np.ndarray, "rows dim"], levels: UInt8[np.ndarray, " rows"]
    ) -> None:
        if scene not in self._scene_places:
            self._scene_places[scene] = len(self.index.scenes)
            self.index.scenes.append(scene)
        place = self._frame_places.setdefault(frame, len(self._frame_places))
        count = len(units)
        if count:
            scene_column = np.full(count, self._scene_places[scene], dtype=np.int32)
            frame_column = np.full(count, place, dtype=np.int32)
            self._buffer.append(ShardRows(units, scene_column, levels, frame_column))
            self._num_buffered += count
        self.index.frames[frame] = count
        self.index.failed.pop(frame, None)
        self._changed = True

    def _flush_if_due(self) -> None:
        if self._num_buffered >= self.index.shard_rows or time.monotonic() - self._flushed_at >= self._flush_seconds:
            self.flush()

    def _write_shards(self, number: int) -> tuple[list[Shard], list[ShardRows]]:
        """Writes the rows in memory; returns the shards, and the rows of the last one if it is not full."""
        rows = ShardRows.concatenate(self._buffer)
        shards, limit = [], self.index.shard_rows
        for first in range(0, len(rows), limit):
            part = rows[first : first + limit]
            suffix = "" if len(part) == limit else f"-{len(part):05d}"
            file = f"shard-{number + first // limit:05d}{suffix}.safetensors"
            content = save({name: np.ascontiguousarray(column) for name, column in vars(part).items()})
            try:
                with atomic_path(self.folder / file) as temporary:
                    temporary.write_bytes(content)
            except OSError as error:
                raise _cannot_write(self.folder / file, error) from error
            counts = zip(*np.unique(part.scene, return_counts=True), strict=True)
            scene_rows = {int(scene): int(count) for scene, count in counts}
            shards.append(Shard(file, len(part), hashlib.sha256(content).hexdigest(), scene_rows))
        rest = len(rows) % limit
        return shards, [rows[len(rows) - rest :]] if rest else []


def ingest(writer: ShardWriter, frames: Iterable[FrameRows]) -> None:
    """Adds existing embeddings, such as those of a feature store.

    Raises:
        GenLangSplatError: If they do not match the folder, or cannot be written.
    """
    for key, scene, embeddings, levels in frames:
        writer.add(key, scene, embeddings, levels)


def quarantine_damaged(folder: Path) -> dict[str, str]:
    """Removes damaged shards from the index, renames their files, and returns their names and problems.

    The next run extracts the frames again that were completely in these shards. If a frame was split between a damaged
    and an intact shard, its rows in the damaged shard are lost.

    Raises:
        GenLangSplatError: If another process writes to the folder, or the index cannot be read or written.
    """
    ShardIndex.read(folder)
    lock = _lock(folder)
    try:
        return _quarantine(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        lock.release()


def _quarantine(folder: Path) -> dict[str, str]:
    found = ShardFolder(folder, ShardIndex.read(folder))
    problems = found.problems()
    if not problems:
        return {}
    index = found.index
    index.shards = [shard for shard in index.shards if shard.file not in problems]
    index.quarantined.update(problems)
    left = np.zeros(len(index.frames), dtype=np.int64)
    for shard in index.shards:
        left += np.bincount(found.open(shard).column("frame").numpy(), minlength=len(left))
    for (frame, rows), rows_left in zip(list(index.frames.items()), left.tolist(), strict=True):
        if rows:
            index.frames[frame] = rows_left or None
    index.write(folder)
    for file in problems:
        if (folder / file).exists():
            (folder / file).rename(folder / f"{file}.damaged")
    return problems


def _lock(folder: Path) -> FileLock:
    """Locks a folder. The operating system releases the lock if this process is killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
        return lock
    except Timeout as error:
        raise GenLangSplatError(
            f"Another process is writing to {folder}. Wait until it finishes, or choose another folder."
        ) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _prepare(folder: Path, identity: ShardIdentity, shard_rows: int) -> ShardIndex:
    """Reads or creates the index, and deletes files that it does not list."""
    if not (folder / INDEX_NAME).exists():
        strays = sorted(path.name for path in folder.glob("shard-*.safetensors"))
        if strays:
            raise GenLangSplatError(
                f"{folder} contains {len(strays)} shards, such as {strays[0]}, but no {INDEX_NAME}. "
                "Restore it from a copy, or choose another folder."
            )
        # Written before any shard, so that a killed writer never leaves shards without an index.
        ShardIndex(identity, shard_rows).write(folder)
    index = ShardIndex.read(folder)
    for name, ours in asdict(identity).items():
        theirs = asdict(index.identity)[name]
        if ours != theirs:
            raise GenLangSplatError(
                f"{folder} contains embeddings with {name} {theirs}, but those to add have {name} {ours}. "
                "Choose another folder; training can read several folders."
            )
    named = {shard.file for shard in index.shards}
    for pattern in ("shard-*.safetensors", ".shard-*.safetensors", ".index-*.json"):
        for path in folder.glob(pattern):
            if path.name not in named:
                path.unlink(missing_ok=True)
    return index


def _last_shard_if_not_full(folder: Path, index: ShardIndex) -> list[ShardRows]:
    """Returns the rows of the last shard if it is not full, to append further rows."""
    if not index.shards or index.shards[-1].rows == index.shard_rows:
        return []
    shards = ShardFolder(folder, replace(index, shards=index.shards[-1:]))
    shards.verify()
    return [shards.open(index.shards[-1]).rows()]


def _without_duplicates(units: Float16[np.ndarray, "rows embedding_dim"]) -> Bool[np.ndarray, " rows"]:
    """Returns which rows are not duplicates of an earlier row that is kept."""
    kept = np.ones(len(units), dtype=bool)
    # Chunks limit the memory of the cosine matrix; frames have fewer regions in practice.
    for first in range(0, len(units), COMPARED_ROWS):
        piece = units[first : first + COMPARED_ROWS].astype(np.float32)
        piece /= np.linalg.norm(piece, axis=1, keepdims=True)
        near = np.tril(piece @ piece.T > DUPLICATE_COSINE, k=-1)
        stays = kept[first : first + COMPARED_ROWS]
        for row in np.flatnonzero(near.any(axis=1)):
            stays[row] = not (near[row] & stays).any()
    return kept


def _cannot_write(path: Path, error: OSError) -> GenLangSplatError:
    return GenLangSplatError(
        f"{path} could not be written ({error.strerror or error}). The frames in the index are stored. Free disk space "
        "or fix the permissions, then run the same command again to continue."
    )
