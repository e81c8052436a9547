"""Rows of a tensor as an infinite source of embeddings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError


class TensorSource:
    """Returns the rows of a tensor in a new random order in each epoch.

    The epochs form one sequence, of which process r of W takes the positions r, r + W, r + 2 W and so on. So several
    processes see the same rows in each step as one process with the total batch size.

    The rows are of any floating-point type. The seed must be the same on all processes.

    Raises:
        GenLangSplatError: If there are no rows, a row is not finite or zero, or the rank is not below the world size.
    """

    def __init__(
        self, embeddings: Float[Tensor, "count embedding_dim"], seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if len(embeddings) == 0:
            raise GenLangSplatError("A source needs at least one embedding, got none.")
        if not 0 <= rank < world_size:
            raise GenLangSplatError(f"The rank must be between 0 and {world_size - 1}, got {rank}.")
        lengths = torch.linalg.vector_norm(embeddings, dim=-1, dtype=torch.float32)
        bad = ~(lengths.isfinite() & (lengths > 0))
        if bool(bad.any()):
            raise GenLangSplatError(
                f"{int(bad.sum())} of {len(embeddings)} embeddings are zero or not finite, the first at row "
                f"{int(bad.nonzero()[0])}. Remove them."
            )
        self._embeddings = embeddings
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._position = 0
        self._epoch = -1
        self._order: Int[Tensor, " count"] = torch.zeros(0, dtype=torch.long)

    def __call__(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        """Returns the next `count` rows as unit vectors in float32."""
        places = self._rank + self._world_size * torch.arange(self._position, self._position + count)
        self._position += count
        epochs, within = places // len(self._embeddings), places % len(self._embeddings)
        picks = torch.cat([self._order_of(int(epoch))[within[epochs == epoch]] for epoch in epochs.unique()])
        rows = self._embeddings.index_select(0, picks.to(self._embeddings.device))
        return F.normalize(rows.float(), dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the sequence for `load_state_dict`."""
        return {"dealt": self._position, "seed": self._seed, "rows": len(self._embeddings)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues the sequence of another source of the same rows.

        Raises:
            GenLangSplatError: If the state is of another seed or another number of rows.
        """
        mine = self.state_dict()
        if any(state.get(name) != mine[name] for name in ("seed", "rows")):
            raise GenLangSplatError(
                f"The state is of {state.get('rows')} rows and seed {state.get('seed')}, but this source has "
                f"{mine['rows']} rows and seed {mine['seed']}. Resume with the same embeddings and seed."
            )
        self._position = int(state["dealt"])

    def _order_of(self, epoch: int) -> Int[Tensor, " count"]:
        if epoch != self._epoch:
            # Seeds of epochs must not coincide between sources with neighboring seeds.
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            self._order = torch.randperm(len(self._embeddings), generator=generator)
            self._epoch = epoch
        return self._order
