"""Small identities, embeddings and sources for the tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity


def identity(architecture: str = "mlp") -> AutoencoderIdentity:
    """An autoencoder 24 -> 4."""
    return AutoencoderIdentity("tiny", "test-encoder/1", embedding_dim=24, latent_dim=4, architecture=architecture)


def unit_rows(count: int, seed: int, rank: int = 24) -> Tensor:
    """Unit rows of width 24 in a subspace of that rank, the same subspace for all seeds."""
    basis = torch.randn(rank, 24, generator=torch.Generator().manual_seed(77))
    return F.normalize(torch.randn(count, rank, generator=torch.Generator().manual_seed(seed)) @ basis, dim=-1)


class Drawing:
    """Draws random rows of a tensor; the n-th call raises KeyboardInterrupt. Ranks share what one draws alone."""

    def __init__(self, rows: Tensor, calls: int | None = None, rank: int = 0, world_size: int = 1) -> None:
        self._rows, self._calls_left, self._rank, self._world_size = rows, calls, rank, world_size
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, count: int) -> Tensor:
        if self._calls_left is not None:
            if not self._calls_left:
                raise KeyboardInterrupt
            self._calls_left -= 1
        places = torch.randint(len(self._rows), (count, self._world_size), generator=self._generator)
        return self._rows[places[:, self._rank]]

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])


def assert_same_weights(first: Autoencoder, second: Autoencoder) -> None:
    """Asserts that both have exactly the same weights and statistics."""
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0)


@torch.no_grad()
def reconstruction_cosine(autoencoder: Autoencoder, embeddings: Tensor) -> float:
    """Mean cosine between embeddings and their reconstructions."""
    return float(F.cosine_similarity(autoencoder(embeddings), embeddings, dim=-1).mean())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
