"""Timers of the benchmarks: wall and processor time, medians and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Milliseconds of every repetition: wall time, and processor time of all threads if it is known."""

    wall: list[float]
    processor: list[float]

    @property
    def median(self) -> float:
        """Median of the wall times."""
        return statistics.median(self.wall)

    def row(self) -> dict[str, object]:
        """The values to write to JSON."""
        return {
            "median_ms": self.median,
            "min_ms": min(self.wall),
            "max_ms": max(self.wall),
            "processor_ms": statistics.median(self.processor) if self.processor else None,
            "repetitions": len(self.wall),
        }


class Stopwatch:
    """Sums the time spent inside `with` blocks."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *unused: object) -> None:
        self.wall += 1e3 * (time.perf_counter() - self._start[0])
        self.processor += 1e3 * (time.process_time() - self._start[1])


def timing_of(watches: list[Stopwatch]) -> Timing:
    """One repetition per timer."""
    return Timing([watch.wall for watch in watches], [watch.processor for watch in watches])


def repeat(repetitions: int, work: Callable[[], object]) -> Timing:
    """Times `work` after one warm-up call."""
    work()
    watches = [Stopwatch() for _ in range(repetitions)]
    for watch in watches:
        with watch:
            work()
    return timing_of(watches)


def in_turns(works: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, Timing]:
    """Times several tasks in turns after one warm-up each, so that all run under the same conditions."""
    watches: dict[str, list[Stopwatch]] = {name: [] for name in works}
    for number in range(repetitions + 1):
        for name, work in works.items():
            watch = Stopwatch()
            with watch:
                work()
            if number:
                watches[name].append(watch)
    return {name: timing_of(found) for name, found in watches.items()}
