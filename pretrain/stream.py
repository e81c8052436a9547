"""An infinite shuffled stream of stored embeddings, with bounded memory.

An epoch visits blocks of consecutive rows in random order. Some of them form a window, whose rows are shuffled. The
order only depends on the seed, so the stream can continue at any position. All ranks use the same global order, and
each takes every n-th row of it: n ranks with batch size B see the same rows in each step as one with batch size n x B.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.scene_files import SceneFile

WINDOW_BLOCKS = 1024
"""Blocks of a window: 128 MiB at a width of 512. Two windows are in memory, because the next one is prefetched."""

BLOCK_ROWS = 128
"""Consecutive rows that are read together. They come from few frames: fewer mix better, more are faster to read."""


class _Window(NamedTuple):
    """Shuffled rows between two positions of the global stream."""

    start: int
    end: int
    rows: Float16[Tensor, "rows embedding_dim"]


class EmbeddingStream:
    """Infinite source of unit embeddings in random order, with each row once per epoch.

    `rows` is the number of rows of an epoch, over all ranks; raises GenLangSplatError if the files have none.
    """

    def __init__(
        self,
        files: Sequence[SceneFile],
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        window_blocks: int = WINDOW_BLOCKS,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        self.rows = sum(file.rows for file in files)
        if self.rows == 0:
            raise GenLangSplatError("The scenes to train on have no embeddings. Choose others, or extract more.")
        self._files, self._seed, self._rank, self._world_size = files, seed, rank, world_size
        self._window_blocks = window_blocks
        # Number of the file, first row and number of rows of each block.
        self._blocks = np.array(
            [
                (number, first, min(block_rows, file.rows - first))
                for number, file in enumerate(files)
                for first in range(0, file.rows, block_rows)
            ]
        )
        order = [[file.sha256 for file in files], seed, window_blocks, block_rows]
        self._fingerprint = hashlib.sha256(json.dumps(order).encode()).hexdigest()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding-stream")
        self._window: _Window
        self._next: Future[_Window]
        self._go_to(0)

    def __call__(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        """Returns the next `count` rows of this rank as unit vectors; raises DamagedFileError if a file is gone."""
        parts, end = [], self._position + count * self._world_size
        while self._position < end:
            if self._position == self._window.end:
                self._window = self._next.result()
                self._next = self._reader.submit(self._load, self._window.end)
            first = self._position - self._window.start
            parts.append(self._window.rows[first : first + end - self._position])
            self._position += len(parts[-1])
        return F.normalize(torch.cat(parts)[self._rank :: self._world_size].float(), dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the position. It is the same on all ranks, and their number may change later."""
        return {"position": self._position, "fingerprint": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues at a saved position, with exactly the same rows.

        Raises:
            GenLangSplatError: If the state is of a stream with other files, another seed or other windows.
        """
        if state.get("fingerprint") != self._fingerprint:
            raise GenLangSplatError(
                "The training to resume used other embeddings or another seed. Resume with the original ones, or train "
                "into another file."
            )
        self._next.cancel()
        self._go_to(state["position"])

    def _go_to(self, position: int) -> None:
        self._position = position
        self._window = self._load(position)
        self._next = self._reader.submit(self._load, self._window.end)

    def _load(self, position: int) -> _Window:
        """Reads the window that contains a position of the global stream."""
        epoch, row = divmod(position, self.rows)
        order = np.random.default_rng((self._seed, epoch, 0)).permutation(len(self._blocks))
        ends = np.cumsum(self._blocks[order, 2])
        number = int(np.searchsorted(ends, row, side="right")) // self._window_blocks
        blocks = self._blocks[np.sort(order[number * self._window_blocks : (number + 1) * self._window_blocks])]
        sizes = blocks[:, 2]
        places = np.random.default_rng((self._seed, epoch, 1 + number)).permutation(int(sizes.sum()))
        rows = torch.empty(len(places), self._files[0].identity.embedding_dim, dtype=torch.float16)
        # One memory map at a time, because its pages count as memory until it is closed.
        for (file, first, size), targets in zip(blocks.tolist(), np.split(places, sizes.cumsum()[:-1]), strict=True):
            rows[torch.from_numpy(targets)] = self._files[file].embeddings(first, first + size)
        start = epoch * self.rows + (int(ends[number * self._window_blocks - 1]) if number else 0)
        return _Window(start, start + len(rows), rows)
