"""The running average of weights, which generalizes better than the last weights and judges smoother."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a network's parameters and statistics.

    After step t the average takes 1 - min(decay, (1 + t) / (10 + t)) of the new weights, so that the random start is
    forgotten early whatever the decay.

    Args:
        followed: The network that is trained; the average begins as a copy of it.
        decay: What the average keeps of itself in a step, in [0, 1).

    Attributes:
        network: A network with the average for its weights, in evaluation mode.
    """

    def __init__(self, followed: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(followed).eval().requires_grad_(False)
        self._decay = decay
        self._own, self._own_counts = _state(self.network)
        self._followed, self._followed_counts = _state(followed)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step (counted from 1)."""
        kept = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._own, self._followed, 1 - kept)
        for own, followed in zip(self._own_counts, self._followed_counts, strict=True):
            own.copy_(followed)


def _state(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors of a network that can be averaged, and those that count."""
    tensors = [*network.parameters(), *network.buffers()]
    return (
        [tensor for tensor in tensors if tensor.is_floating_point()],
        [tensor for tensor in tensors if not tensor.is_floating_point()],
    )
