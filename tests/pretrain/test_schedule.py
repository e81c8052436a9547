"""Learning rate schedules."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pretrain.schedule import rates_at


@pytest.mark.parametrize(("steps", "warmup"), [(60, 0.1), (7, 0.3), (200, 0.5)])
def test_one_cycle_is_that_of_torch(steps: int, warmup: float) -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=steps + 1, pct_start=warmup)
    for step in range(steps):
        rates = rates_at(step, steps, 0.02, warmup, "one-cycle")
        group = optimizer.param_groups[0]
        assert rates.learning_rate == pytest.approx(group["lr"], rel=1e-6)
        assert rates.momentum == pytest.approx(group["betas"][0], rel=1e-6)
        optimizer.step()
        reference.step()


def test_cosine_rises_straight_to_the_peak_and_falls_to_nearly_nothing() -> None:
    rates = [rates_at(step, 100, 0.5, 0.2, "cosine").learning_rate for step in range(100)]
    assert rates[:20] == pytest.approx([0.5 * (step + 1) / 20 for step in range(20)])
    assert all(before > after for before, after in pairwise(rates[20:]))
    assert rates[60] == pytest.approx(0.25)
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.999])
def test_every_length_and_warmup_gives_rates_between_zero_and_the_peak(schedule: str, warmup: float) -> None:
    for steps in (1, 2, 3, 50):
        for step in range(steps):
            rates = rates_at(step, steps, 1.0, warmup, schedule)  # type: ignore[arg-type]
            assert 0 <= rates.learning_rate <= 1
            assert 0.8 < rates.momentum < 1
