"""Rows of a tensor in memory as an endless source of embeddings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError


class TensorSource:
    """Deals the rows of a tensor epoch after epoch, each epoch in a new order.

    The epochs form one sequence, of which process r of W takes the places r, r + W, r + 2 W and so on: several
    processes together see in a step what one process sees with a batch as large as theirs together.

    Args:
        embeddings: The rows, in any floating type.
        seed: Seeds the orders; the same on all processes.
        rank: Which process this is.
        world_size: How many processes there are.

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
                f"{int(bad.nonzero()[0])}. Remove them, training on them would ruin the weights."
            )
        self._embeddings = embeddings
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._position = 0
        self._epoch = -1
        self._order: Int[Tensor, " count"] = torch.zeros(0, dtype=torch.long)

    def __call__(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        """Gives the next `count` rows, in float32 and with unit length."""
        places = self._rank + self._world_size * torch.arange(self._position, self._position + count)
        self._position += count
        epochs = places // len(self._embeddings)
        within = places % len(self._embeddings)
        picks = torch.cat([self._order_of(int(epoch))[within[epochs == epoch]] for epoch in epochs.unique()])
        rows = self._embeddings.index_select(0, picks.to(self._embeddings.device))
        return F.normalize(rows.float(), dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Gives what `load_state_dict` needs to go on with the sequence."""
        return {"dealt": self._position, "seed": self._seed, "rows": len(self._embeddings)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another source of the same rows stood.

        Raises:
            GenLangSplatError: If the state is of another seed or another number of rows.
        """
        mine = self.state_dict()
        if any(state.get(name) != mine[name] for name in ("seed", "rows")):
            raise GenLangSplatError(
                f"The state is of {state.get('rows')} rows under the seed {state.get('seed')}, this source has "
                f"{mine['rows']} rows and the seed {mine['seed']}. Go on with the same embeddings and seed."
            )
        self._position = int(state["dealt"])

    def _order_of(self, epoch: int) -> Int[Tensor, " count"]:
        if epoch != self._epoch:
            # Seeds of neighboring epochs must not meet those of neighboring sources.
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            self._order = torch.randperm(len(self._embeddings), generator=generator)
            self._epoch = epoch
        return self._order
