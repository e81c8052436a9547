"""Exponential moving average of weights, which generalizes better than the last weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a network's parameters and statistics.

    After step t the weight of the new parameters is 1 - min(decay, (1 + t) / (10 + t)), so that the random initial
    weights have little influence at any decay in [0, 1). The average is initialized with the trained network. The
    attribute `network` has the averaged weights, in evaluation mode.
    """

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(trained).eval().requires_grad_(False)
        self._decay = decay
        self._own, self._own_counts = _state(self.network)
        self._trained, self._trained_counts = _state(trained)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Updates the average after a step (counted from 1)."""
        kept = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._own, self._trained, 1 - kept)
        for own, trained in zip(self._own_counts, self._trained_counts, strict=True):
            own.copy_(trained)


def _state(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the floating-point tensors of a network, and its integer tensors."""
    tensors = [*network.parameters(), *network.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floating, [tensor for tensor in tensors if not tensor.is_floating_point()]
