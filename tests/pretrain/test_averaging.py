"""The moving average of weights, compared to a scalar computation."""

from __future__ import annotations

import torch
from torch import nn

from pretrain.averaging import WeightAverage


class Counting(nn.Module):
    """A weight, a statistic and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.register_buffer("statistic", torch.tensor([5.0]))
        self.register_buffer("seen", torch.tensor(0))


@torch.no_grad()
def test_the_average_is_the_one_worked_out_by_hand() -> None:
    network = Counting()
    average = WeightAverage(network, decay=0.6)
    weight, statistic = [1.0, -2.0], 5.0
    for step in range(1, 30):
        network.weight += torch.tensor([0.5, step])
        network.get_buffer("statistic").mul_(1.1)
        network.get_buffer("seen").add_(1)
        average.update(step)
        kept = min(0.6, (1 + step) / (10 + step))
        weight = [kept * old + (1 - kept) * new for old, new in zip(weight, network.weight.tolist(), strict=True)]
        statistic = kept * statistic + (1 - kept) * network.get_buffer("statistic").item()
    torch.testing.assert_close(average.network.get_parameter("weight").data, torch.tensor(weight))
    torch.testing.assert_close(average.network.get_buffer("statistic"), torch.tensor([statistic]))
    assert average.network.get_buffer("seen").item() == 29
    assert network.weight.tolist() == [1.0 + 0.5 * 29, -2.0 + sum(range(1, 30))]


def test_the_average_is_ready_for_use_and_never_trained() -> None:
    network = Counting().train()
    average = WeightAverage(network, decay=0.6)
    assert network.training and not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
