"""An endless shuffled stream of the embeddings in shards, in bounded memory.

An epoch visits blocks of neighboring rows in random order. So many blocks that their rows fill the buffer make a
window, whose rows are shuffled among one another. Blocks, windows and their order follow from the seed alone: any place
of the stream can be found again, and all ranks agree on one global order, of which each takes every n-th row. Therefore
n ranks with a batch of B see together, step by step, what one rank with a batch of n x B sees.
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
"""Rows shuffled among one another: 128 MiB at a width of 512, twice, because the next ones are read ahead."""

BLOCK_ROWS = 128
"""Neighboring rows that are read together: few for good mixing, many for fast disks. They come from few frames."""


@dataclass(frozen=True)
class _Window:
    """Rows shuffled among one another.

    Attributes:
        start: Rows of the whole stream before it.
        end: Rows of the whole stream up to its end.
        rows: This rank's rows, in the order in which they are given out.
    """

    start: int
    end: int
    rows: Float16[Tensor, "rows embedding_dim"]


class EmbeddingStream:
    """Gives unit embeddings without end, in random order; every row once per epoch.

    Memory: two windows, plus one byte for each row of the shards that only some rows are wanted of.

    Args:
        folders: Folders of shards, all of one encoder.
        scenes: Names of the wanted scenes; None for all.
        exclude_scenes: Names of scenes that are not wanted, even if `scenes` names them.
        seed: Seeds the order.
        buffer_rows: Rows shuffled among one another, over all ranks.
        rank: Number of this process.
        world_size: How many processes share the stream.
        block_rows: Neighboring rows that are read together.

    Attributes:
        encoder: Identity of the encoder.
        embedding_dim: Width of the embeddings.
        rows: Rows of an epoch, over all ranks.

    Raises:
        GenLangSplatError: If a folder or shard cannot be read, the folders are of different encoders, no row is wanted,
            or a number is out of its range.
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
                f"A stream needs positive buffer_rows and block_rows, a seed from 0, and a rank from 0 to below "
                f"world_size; got {buffer_rows}, {block_rows}, {seed}, and rank {rank} of {world_size}."
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
        """How many epochs lie behind."""
        return self._position // self.rows

    def __call__(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        """Gives the next `count` rows of this rank, of unit length.

        Raises:
            GenLangSplatError: If a shard has gone or been truncated meanwhile, or a row is not finite or zero.
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
        rows = torch.cat(parts) if parts else self._window.rows[:0]
        return unit_rows(rows, self._folders)

    def state_dict(self) -> dict[str, Any]:
        """Says where the stream is, ready for JSON; it is the same on all ranks, and their number may change later."""
        return {"position": self._position, "fingerprint": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a place; what follows is bit for bit what followed there.

        Raises:
            GenLangSplatError: If the state is of a stream of other shards, scenes, seed, buffer or blocks, or a shard
                cannot be read.
        """
        if state.get("fingerprint") != self._fingerprint:
            raise GenLangSplatError(
                "The training state belongs to a stream of other shards, scenes, seed, buffer_rows or block_rows. "
                "Resume with those the run began with, or begin a new run."
            )
        self._next.cancel()
        self._position = int(state["position"])
        self._window = self._load(self._position)
        self._next = self._reader.submit(self._load, self._window.end)

    def _index_blocks(self) -> None:
        """Cuts the shards into blocks, and counts the wanted rows of each; blocks without any are left out."""
        shards, firsts, counts = [], [], []
        for place, subset in enumerate(self._subsets):
            starts = np.arange(0, subset.shard.rows, self._block_rows)
            if subset.kept is None:
                wanted = np.minimum(self._block_rows, subset.shard.rows - starts)
            else:
                wanted = np.add.reduceat(subset.kept, starts, dtype=np.int64)
            shards.append(np.full(int((wanted > 0).sum()), place))
            firsts.append(starts[wanted > 0])
            counts.append(wanted[wanted > 0])
        self._block_shards = np.concatenate(shards)
        self._block_firsts = np.concatenate(firsts)
        self._block_counts = np.concatenate(counts)

    def _hash(self) -> str:
        """Hash of all that the order follows from."""
        shards = [(subset.shard.sha256, subset.rows) for subset in self._subsets]
        blocks = hashlib.sha256(self._block_counts.astype(np.int64).tobytes()).hexdigest()
        content = [shards, blocks, self._seed, self._buffer_rows, self._block_rows]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _next_own(self, position: int) -> int:
        """The first place from there on that is this rank's."""
        return position + (self._rank - position) % self._world_size

    def _load(self, position: int) -> _Window:
        """Reads the window in which that row of the whole stream lies."""
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
        """Reads this rank's rows of some blocks, and puts them in the order of their places in the whole stream."""
        start = min(int(block_places.min()) for block_places in places)
        total = sum(map(len, places))
        first_own = self._next_own(start)
        rows = np.empty((len(range(first_own, start + total, self._world_size)), self.embedding_dim), np.float16)
        shard, opened = None, -1
        # By shard, so that only one is mapped at a time: what has been read of it counts as memory until it is let go.
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
