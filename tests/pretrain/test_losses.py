"""The losses, compared to the paper's formulas row by row; checks and mixing of rows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.losses import LossName, check_unit_rows, mix_rows, reconstruction_loss
from tests.pretrain.training_fakes import unit_rows


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


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 3.0])
def test_a_bad_row_is_refused_by_its_number_and_length(value: float) -> None:
    rows = unit_rows(6, seed=0)
    rows[4] = value
    with pytest.raises(GenLangSplatError, match="somewhere gave 1 bad rows of 6; the first is row 4 of length"):
        check_unit_rows(rows, 24, "somewhere")


def test_rows_of_half_precision_pass_and_other_widths_or_none_do_not() -> None:
    check_unit_rows(unit_rows(50, seed=0).half(), 24, "somewhere")
    with pytest.raises(GenLangSplatError, match=r"6 rows of width 24, but .* width 25"):
        check_unit_rows(unit_rows(6, seed=0), 25, "somewhere")
    with pytest.raises(GenLangSplatError, match="0 rows"):
        check_unit_rows(unit_rows(0, seed=0), 24, "somewhere")


def test_mixing_keeps_each_row_nearest_to_itself_and_moves_it_towards_one_other() -> None:
    mixed = mix_rows(torch.eye(40), 0.5, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed.norm(dim=-1), torch.ones(40))
    assert mixed.argmax(dim=-1).tolist() == list(range(40))
    assert ((mixed > 0).sum(dim=-1) == 2).all()
    shares = mixed.sort(dim=-1).values[:, -2] / mixed.sum(dim=-1)
    assert shares.max() <= 0.5 and shares.max() > 0.4 and shares.min() < 0.1
    torch.testing.assert_close(mix_rows(torch.eye(1), 0.5, 0.0, torch.Generator()), torch.eye(1))


def test_noise_alone_is_of_the_asked_size_and_leaves_unit_rows() -> None:
    rows = F.normalize(torch.randn(200, 100, generator=torch.Generator().manual_seed(1)), dim=-1)
    noisy = mix_rows(rows, 0.0, 0.01, torch.Generator().manual_seed(0))
    # The 99 noise components orthogonal to a row rotate it by an angle of about 0.01 sqrt(99).
    assert (noisy - rows).norm(dim=-1).mean().item() == pytest.approx(0.01 * 99**0.5, rel=0.05)
    torch.testing.assert_close(noisy.norm(dim=-1), torch.ones(200))
