"""The benchmark of robustness: the slope of a memory that grows is found, and its table names every loss."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("benchmarks_importable")


def test_a_memory_that_grows_has_a_slope_above_zero_and_a_flat_one_has_not() -> None:
    from support.robustness_load import Slope

    rng = np.random.default_rng(0)
    noise = 20 * rng.standard_normal(400)
    grows, flat = Slope.of(list(5000 + 0.5 * np.arange(400) + noise)), Slope.of(list(5000 + noise))
    assert 0.4 < grows.kb < 0.6 and grows.low > 0
    assert flat.low < 0 < flat.high
    # A start that fills caches does not count.
    assert Slope.of([*np.linspace(0, 9000, 100), *(9000 + noise)]).low < 0


def test_percentiles_are_those_of_the_sorted_times() -> None:
    from support.robustness_load import figures

    row = figures("queries", [number / 1000 for number in range(100, 0, -1)], [1.0] * 100)
    assert (row["p50_ms"], row["p95_ms"], row["p99_ms"]) == (51.0, 96.0, 100.0)
    assert row["slope_low_kb"] <= 0 <= row["slope_high_kb"]


def test_every_kind_of_loss_is_a_goal_of_zero(capsys: pytest.CaptureFixture) -> None:
    from robustness import _series

    from tests.robustness.kills import KillFigures

    found = [KillFigures("export", kills=3, midway=2, wrong_resumes=1, findings=["export, kill 2: wrong"])]
    columns = ("kills", "midway", "data_losses", "wrong_resumes", "leftovers")
    rows, goals = _series("Kills", ("stage",), columns, found)
    assert rows[0]["stage"] == "export" and rows[0]["wrong_resumes"] == 1
    assert [goal.met for goal in goals] == [True, False, True]
    assert "export, kill 2: wrong" in capsys.readouterr().out


@pytest.mark.slow
def test_short_loads_run_and_have_figures() -> None:
    from support import robustness_load

    assert robustness_load.lifts(3, seed=0)["repetitions"] == 3
    assert [row["part"] for row in robustness_load.views(12, seed=0)] == ["extraction", "lifting"]
    assert robustness_load.queries(20, seed=0)["p99_ms"] > 0
