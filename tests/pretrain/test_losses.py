"""The losses, compared to the paper's formulas row by row."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from pretrain.losses import LossName, reconstruction_loss


def row_loss(made: list[float], wanted: list[float], cosine_weight: float, loss: LossName) -> float:
    """Equation 5 or 7 for one row."""
    differences = [a - b for a, b in zip(made, wanted, strict=True)]
    distance = sum(d * d for d in differences) if loss == "squared" else sum(abs(d) for d in differences)
    product = sum(a * b for a, b in zip(made, wanted, strict=True))
    cosine = product / math.sqrt(sum(a * a for a in made) * sum(b * b for b in wanted))
    return distance + cosine_weight * (1 - cosine)


@pytest.mark.parametrize("loss", ["squared", "l1"])
@pytest.mark.parametrize("cosine_weight", [0.0, 1.0, 0.25])
def test_the_loss_is_the_mean_of_the_formula_over_rows(loss: LossName, cosine_weight: float) -> None:
    made, wanted = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)).double()
    expected = [row_loss(a, b, cosine_weight, loss) for a, b in zip(made.tolist(), wanted.tolist(), strict=True)]
    assert reconstruction_loss(made, wanted, cosine_weight, loss).item() == pytest.approx(sum(expected) / 7)


def test_the_cosine_is_per_row_and_not_over_the_batch() -> None:
    """Exchanging the rows of a batch must increase the loss."""
    rows = F.normalize(torch.eye(4), dim=-1)
    assert reconstruction_loss(rows, rows, 1.0).item() == pytest.approx(0, abs=1e-6)
    assert reconstruction_loss(rows.roll(1, 0), rows, 1.0).item() == pytest.approx(3)


@pytest.mark.parametrize("loss", ["squared", "l1"])
def test_a_zero_row_gives_finite_gradients(loss: LossName) -> None:
    made = torch.zeros(2, 5, requires_grad=True)
    reconstruction_loss(made, F.normalize(torch.ones(2, 5), dim=-1), 1.0, loss).backward()
    assert made.grad is not None and made.grad.isfinite().all()
