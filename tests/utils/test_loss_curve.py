"""The curve of a loss has few points, however many steps there are."""

from __future__ import annotations

import pytest
import torch

from genlangsplat_ns.utils.loss_curve import MAX_POINTS, LossCurve


def curve_of(count: int) -> list[tuple[int, float]]:
    curve = LossCurve()
    for step in range(count):
        curve.add(step, torch.tensor(float(step)))
    return curve.points


def test_a_short_curve_has_every_step() -> None:
    assert curve_of(3) == [(0, 0.0), (1, 1.0), (2, 2.0)]


@pytest.mark.parametrize("count", [128, 1_000, 3_001])
def test_a_long_curve_has_the_means_of_equal_windows(count: int) -> None:
    points = curve_of(count)
    assert MAX_POINTS / 2 - 1 <= len(points) < MAX_POINTS
    window = points[0][0] + 1
    for number, (step, mean) in enumerate(points):
        assert step == window * (number + 1) - 1
        assert mean == pytest.approx(step - (window - 1) / 2)
