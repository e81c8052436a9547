"""Stages of work add up to the whole, also when one is entered within another."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from genlangsplat_ns.utils import stopwatch
from genlangsplat_ns.utils.stopwatch import (
    OTHER,
    STARTUP,
    StageCost,
    Stopwatch,
    peak_memory_gb,
    running_stopwatch,
    stage,
    time_between,
)


def test_stages_are_listed_in_their_order_and_a_repeated_one_adds_up() -> None:
    watch = Stopwatch()
    for name in ("a", "b", "a"):
        with watch.stage(name):
            time.sleep(0.02)
    assert list(watch.seconds) == ["a", "b"]
    assert watch.cost("a").wall_seconds >= 0.04 > watch.cost("b").wall_seconds


def test_a_stage_within_another_pauses_it_and_all_add_up_to_the_whole() -> None:
    start = time.perf_counter()
    watch = Stopwatch()
    with watch.stage("outer"):
        time.sleep(0.02)
        with watch.stage("inner"):
            time.sleep(0.1)
    time.sleep(0.03)
    costs, whole = watch.costs, time.perf_counter() - start
    assert costs["inner"].wall_seconds >= 0.1 > costs["outer"].wall_seconds >= 0.02
    assert costs[OTHER].wall_seconds >= 0.03
    assert sum(cost.wall_seconds for cost in costs.values()) == pytest.approx(whole, abs=0.01)


def test_the_rest_of_a_block_can_go_to_another_stage() -> None:
    watch = Stopwatch()
    with watch.stage("first"):
        watch.switch("second")
        time.sleep(0.05)
    watch.switch("nowhere")
    assert watch.cost("second").wall_seconds >= 0.05 > watch.cost("first").wall_seconds
    assert "nowhere" not in watch.costs


def test_a_stage_that_fails_is_booked_and_left() -> None:
    watch = Stopwatch()
    with pytest.raises(ValueError), watch.stage("broken"):
        time.sleep(0.02)
        raise ValueError
    time.sleep(0.02)
    assert watch.cost("broken").wall_seconds >= 0.02 and watch.cost(OTHER).wall_seconds >= 0.02


def test_library_code_books_to_the_stopwatch_that_runs() -> None:
    watch = Stopwatch()
    with stage("nobody measures this"):
        pass
    with watch.running(), stage("known"), running_stopwatch() as found:
        assert found is watch
    with running_stopwatch() as other, stage("unknown"):
        assert other is not watch
    assert "known" in watch.costs and "unknown" in other.costs and "unknown" not in watch.costs


def test_processor_seconds_include_finished_children() -> None:
    watch = Stopwatch()
    with watch.stage("child"):
        subprocess.run([sys.executable, "-c", "sum(i * i for i in range(3_000_000))"], check=True)
    assert watch.cost("child").processor_seconds > 0.05


def test_the_peak_of_memory_belongs_to_the_stage_that_needed_it() -> None:
    watch = Stopwatch()
    with watch.stage("small"):
        pass
    size = int((peak_memory_gb() + 0.1) * 1e9) - int(watch.cost("small").peak_memory_gb * 1e9)
    with watch.stage("large"):
        np.ones(size, np.uint8)
    with watch.stage("after"):
        pass
    peaks = {name: cost.peak_memory_gb for name, cost in watch.costs.items()}
    assert peaks["large"] - peaks["small"] > 0.05 and peaks["large"] - peaks["after"] > 0.05
    assert 0.05 < peak_memory_gb() < 200


def test_costs_add_seconds_and_keep_the_higher_peak() -> None:
    total = StageCost(1.0, 2.0, 3.0, 0.5) + StageCost(10.0, 20.0, 1.0, 0.7)
    assert total == StageCost(11.0, 22.0, 3.0, 0.7)
    assert time_between(StageCost(1.0, 2.0, 3.0), StageCost(5.0, 7.0, 4.0)) == StageCost(4.0, 5.0, 4.0)


def test_the_start_of_the_process_is_a_stage_before_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "seconds_since_start", lambda: 12.5)
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: 100.0)
    watch = Stopwatch.of_process()
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: 107.0)
    with watch.stage("work"):
        pass
    costs = watch.costs
    assert list(costs) == [STARTUP, OTHER, "work"]
    assert [cost.wall_seconds for cost in costs.values()] == [12.5, 7.0, 0.0]
    # What the process has used up is that of its start.
    used = sum(os.times()[:4])
    assert 0.1 < costs[STARTUP].processor_seconds <= used
    assert costs[STARTUP].peak_memory_gb == pytest.approx(peak_memory_gb(), abs=0.01)
    assert STARTUP not in Stopwatch().costs
