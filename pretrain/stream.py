"""An infinite shuffled stream of the embeddings in shards, with bounded memory.

An epoch visits blocks of consecutive rows in random order. As many blocks as fit into the buffer form a window, whose
rows are shuffled. Blocks, windows and their order only depend on the seed, so the stream can continue at any position.
All ranks use the same global order, and each takes every n-th row of it. So n ranks with batch size B see the same rows
in each step as one rank with batch size n x B.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Int64
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.row_subset import select_rows, unit_rows

BUFFER_ROWS = 131_072
"""Rows of a window: 128 MiB at a width of 512. Two windows are in memory, because the next one is prefetched."""

BLOCK_ROWS = 128
"""Consecutive rows that are read together. They come from few frames: fewer mix better, more are faster to read."""


@dataclass(frozen=True)
class _Window:
    """A window of shuffled rows: its range of positions in the global stream, and the rows of this rank in order."""

    start: int
    end: int
    rows: Float16[Tensor, "rows embedding_dim"]


class EmbeddingStream:
    """Infinite source of unit embeddings in random order, with each row once per epoch.

    Memory: two windows, plus one byte per row of shards that are only partly selected.

    Args:
        folders: Folders of shards, all of one encoder.
        scenes: Names of the scenes to select; None for all.
        exclude_scenes: Names of scenes to exclude; overrides `scenes`.
        seed: Seed of the order.
        buffer_rows: Rows of a window, over all ranks.
        rank: Rank of this process.
        world_size: Number of processes that share the stream.
        block_rows: Consecutive rows that are read together.

    Attributes:
        rows: Rows of an epoch, over all ranks.

    Raises:
        GenLangSplatError: If a folder or shard cannot be read, the folders are of different encoders, no row is
            selected, or an argument is out of range.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        scenes: Collection[str] | None = None,
        exclude_scenes: Collection[str] = (),
        seed: int = 0,
        buffer_rows: int = BUFFER_ROWS,
        rank: int = 0,
        world_size: int = 1,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        if min(buffer_rows, block_rows) < 1 or not 0 <= rank < world_size or seed < 0:
            raise GenLangSplatError(
                f"A stream needs positive buffer_rows and block_rows, a nonnegative seed, and a rank from 0 to "
                f"world_size - 1; got {buffer_rows}, {block_rows}, {seed}, and rank {rank} of {world_size}."
            )
        self._folders = list(folders)
        self._subsets = select_rows(folders, scenes, exclude_scenes)
        identity = self._subsets[0].folder.index.identity
        self.encoder, self.embedding_dim = identity.encoder, identity.embedding_dim
        self.rows = sum(subset.rows for subset in self._subsets)
        self._seed, self._buffer_rows, self._block_rows = seed, buffer_rows, block_rows
        self._rank, self._world_size = rank, world_size
        self._index_blocks()
        self._fingerprint = self._hash()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding-stream")
        self._position = 0
        self._window = self._load(0)
        self._next = self._reader.submit(self._load, self._window.end)

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return self._position // self.rows

    def __call__(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        """Returns the next `count` rows of this rank as unit vectors.

        Raises:
            GenLangSplatError: If a shard was deleted or truncated in the meantime, or a row is zero or not finite.
        """
        parts = []
        while count > 0:
            offset = (self._next_own(self._position) - self._next_own(self._window.start)) // self._world_size
            part = self._window.rows[offset : offset + count]
            if len(part) == 0:
                self._window = self._next.result()
                self._next = self._reader.submit(self._load, self._window.end)
                continue
            parts.append(part)
            count -= len(part)
            self._position += len(part) * self._world_size
        return unit_rows(torch.cat(parts) if parts else self._window.rows[:0], self._folders)

    def state_dict(self) -> dict[str, Any]:
        """Returns the position as JSON values. It is the same on all ranks, and their number may change later."""
        return {"position": self._position, "fingerprint": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues at a saved position, with exactly the same rows.

        Raises:
            GenLangSplatError: If the state is of a stream with other shards, scenes, seed, buffer_rows or block_rows,
                or a shard cannot be read.
        """
        if state.get("fingerprint") != self._fingerprint:
            raise GenLangSplatError(
                "The training state belongs to a stream of other shards, scenes, seed, buffer_rows or block_rows. "
                "Resume with the original ones, or start a new training."
            )
        self._next.cancel()
        self._position = int(state["position"])
        self._window = self._load(self._position)
        self._next = self._reader.submit(self._load, self._window.end)

    def _index_blocks(self) -> None:
        """Splits the shards into blocks with at least one selected row, and counts the selected rows of each."""
        shards, firsts, counts = [], [], []
        for place, subset in enumerate(self._subsets):
            starts = np.arange(0, subset.shard.rows, self._block_rows)
            if subset.kept is None:
                selected = np.minimum(self._block_rows, subset.shard.rows - starts)
            else:
                selected = np.add.reduceat(subset.kept, starts, dtype=np.int64)
            shards.append(np.full(int((selected > 0).sum()), place))
            firsts.append(starts[selected > 0])
            counts.append(selected[selected > 0])
        self._block_shards = np.concatenate(shards)
        self._block_firsts = np.concatenate(firsts)
        self._block_counts = np.concatenate(counts)

    def _hash(self) -> str:
        """Returns a hash of everything that determines the order."""
        shards = [(subset.shard.sha256, subset.rows) for subset in self._subsets]
        blocks = hashlib.sha256(self._block_counts.astype(np.int64).tobytes()).hexdigest()
        content = [shards, blocks, self._seed, self._buffer_rows, self._block_rows]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _next_own(self, position: int) -> int:
        """Returns the first position of this rank that is not before `position`."""
        return position + (self._rank - position) % self._world_size

    def _load(self, position: int) -> _Window:
        """Reads the window that contains a position of the global stream."""
        epoch, row = divmod(position, self.rows)
        order = np.random.default_rng((self._seed, epoch, 0)).permutation(len(self._block_counts))
        ends = self._block_counts[order].cumsum()
        first, last, start = 0, 0, 0
        while last == 0 or ends[last - 1] <= row:
            first, start = last, int(ends[last - 1]) if last else 0
            last = min(int(np.searchsorted(ends, start + self._buffer_rows)) + 1, len(ends))
        places = np.random.default_rng((self._seed, epoch, 1 + first)).permutation(int(ends[last - 1]) - start)
        places += epoch * self.rows + start
        return _Window(
            epoch * self.rows + start,
            epoch * self.rows + int(ends[last - 1]),
            self._read_blocks(order[first:last], np.split(places, ends[first : last - 1] - start)),
        )

    def _read_blocks(
        self, blocks: Int64[np.ndarray, " blocks"], places: Sequence[Int64[np.ndarray, " _"]]
    ) -> Float16[Tensor, "rows embedding_dim"]:
        """Reads this rank's rows of some blocks, ordered by their positions in the global stream."""
        start = min(int(block_places.min()) for block_places in places)
        total = sum(map(len, places))
        first_own = self._next_own(start)
        rows = np.empty((len(range(first_own, start + total, self._world_size)), self.embedding_dim), np.float16)
        shard, opened = None, -1
        # By shard, so that only one is mapped at a time: its pages count as memory until it is closed.
        for number in np.argsort(self._block_shards[blocks], kind="stable"):
            place, first = int(self._block_shards[blocks[number]]), int(self._block_firsts[blocks[number]])
            subset = self._subsets[place]
            if shard is None or place != opened:
                shard, opened = subset.open(), place
            last = min(first + self._block_rows, subset.shard.rows)
            values = shard.column("embeddings", first, last).numpy()
            if subset.kept is not None:
                values = values[subset.kept[first:last]]
            steps, remainders = np.divmod(places[number] - first_own, self._world_size)
            own = remainders == 0
            rows[steps[own]] = values[own]
        return torch.from_numpy(rows)
