"""The benchmark of robustness: the slope of a memory that grows is found, and its table names every loss."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from genlangsplat_ns.errors import GenLangSplatError

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


def test_clients_vanish_at_the_moments_of_their_seed() -> None:
    from support.clients_load import STAY, visits

    first, again, other = (list(islice(visits(seed, "page 0"), 200)) for seed in (24, 24, 25))
    assert first == again != other
    assert list(islice(visits(24, "page 1"), 200)) != first
    assert all(STAY[0] <= visit.seconds <= STAY[1] for visit in first)
    assert 60 < sum(visit.amid_answer for visit in first) < 140


def test_a_question_in_the_shared_panel_is_answered_by_itself_or_a_newer_one() -> None:
    from support.clients_tabs import WORDS, Deck

    deck = Deck(seed=24)
    drawn = [deck.draw() for _ in WORDS]
    assert sorted(word for _, word in drawn) == sorted(WORDS)
    (number, word), (_, newer), (_, older) = drawn[5], drawn[6], drawn[4]
    assert deck.answers(word, number) and deck.answers(newer, number)
    assert not deck.answers(older, number) and not deck.answers("embedding the texts ...", number)


def test_errors_in_a_log_are_those_of_this_package_or_of_another() -> None:
    from support.clients_servers import errors_in

    foreign = 'Traceback (most recent call last):\n  File "viser/_infra.py", line 1, in f\n    g()\nKeyError: 3\n'
    own = foreign.replace("viser/_infra.py", "genlangsplat_ns/viewer/flight.py").replace("KeyError: 3", "ValueError: x")
    failed = "POST /api/texts failed: RuntimeError: out of memory"
    assert errors_in(f"opened\n{foreign}{failed}\n{own}closed\n") == ([failed, "ValueError: x"], ["KeyError: 3"])
    assert errors_in("(viser) Connection closed (3, 2 total)\n") == ([], [])


def test_the_memory_of_a_server_grows_per_minute() -> None:
    from support.clients_load import ServerLoad

    load = ServerLoad("page server", seconds=[0.1, 0.3], memory=[5000.0 + 30 * sample for sample in range(200)])
    row = load.row(minutes=10)
    # Twenty samples per minute.
    assert row["per"] == "minute" and row["slope_kb"] == pytest.approx(600) and row["slope_low_kb"] > 0
    assert row["answers"] == 2 and row["p50_ms"] == 300


def test_a_server_that_is_blocked_misses_its_goals() -> None:
    from support.clients_load import DEADLOCK, ServerLoad, goals

    good = ServerLoad("page server", [0.1], [5000.0] * 20, longest=2.0, answers_after=True, stop=1.0)
    assert all(goal.met for goal in goals(good.row(1)))
    blocked = ServerLoad("page server", [], [5000.0] * 20, longest=DEADLOCK + 1, findings=["no answer within 120 s"])
    assert not any(goal.met for goal in goals(blocked.row(1)))


def test_a_part_whose_tool_is_missing_is_refused_before_any_part_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import robustness

    from support import browsers

    monkeypatch.setattr(browsers, "BROWSERS", ("no-such-browser",))
    monkeypatch.setitem(robustness.PARTS, "queries", lambda settings: pytest.fail("a part has run"))
    with pytest.raises(GenLangSplatError, match="Install chromium"):
        robustness.RobustnessBenchmark(parts=("queries", "clients")).measure()


@pytest.mark.slow
def test_few_changed_files_are_given_to_every_reader() -> None:
    from robustness import RobustnessBenchmark, measure_fuzz

    from tests.robustness.parsers import PARSERS

    rows, goals = measure_fuzz(RobustnessBenchmark(inputs=100))
    assert [row["parser"] for row in rows] == [parser.name for parser in PARSERS]
    assert all(row["inputs"] >= 1 for row in rows)
    assert [goal.met for goal in goals] == [True, True]


@pytest.mark.slow
def test_short_loads_run_and_have_figures() -> None:
    from support import robustness_load

    assert robustness_load.lifts(3, seed=0)["repetitions"] == 3
    assert [row["part"] for row in robustness_load.views(12, seed=0)] == ["extraction", "lifting"]
    assert robustness_load.queries(20, seed=0)["p99_ms"] > 0
