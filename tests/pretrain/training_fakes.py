"""Small identities, embeddings and sources for the tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from pretrain.tensor_source import TensorSource


def identity(architecture: str = "mlp") -> AutoencoderIdentity:
    """An autoencoder 24 -> 4."""
    return AutoencoderIdentity("tiny", "test-encoder/1", embedding_dim=24, latent_dim=4, architecture=architecture)


def unit_rows(count: int, seed: int, rank: int = 24) -> Tensor:
    """Unit rows of width 24 in a subspace of that rank, the same subspace for all seeds."""
    basis = torch.randn(rank, 24, generator=torch.Generator().manual_seed(77))
    return F.normalize(torch.randn(count, rank, generator=torch.Generator().manual_seed(seed)) @ basis, dim=-1)


class Interrupting(TensorSource):
    """Returns rows until its n-th call, which raises KeyboardInterrupt."""

    def __init__(self, embeddings: Tensor, calls: int, **kwargs: Any) -> None:
        super().__init__(embeddings, **kwargs)
        self._calls_left = calls

    def __call__(self, count: int) -> Tensor:
        self._calls_left -= 1
        if self._calls_left < 0:
            raise KeyboardInterrupt
        return super().__call__(count)


def assert_same_weights(first: Autoencoder, second: Autoencoder) -> None:
    """Asserts that both have exactly the same weights and statistics."""
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
