"""What the stages of long work cost: seconds, processor seconds and peak memory. Library code enters the stages.

A stage entered within another one pauses it, so the costs of all stages add up to the whole.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path

from genlangsplat_ns.utils.process_start import seconds_since_start

STARTUP = "startup"
"""The stage from the start of the process to the creation of its stopwatch."""

OTHER = "other"
"""The stage of everything outside of all stages."""

_RUNNING: ContextVar[Stopwatch | None] = ContextVar("running stopwatch", default=None)


@dataclass(frozen=True)
class StageCost:
    """The costs of a stage."""

    wall_seconds: float = 0.0
    """Elapsed seconds."""
    processor_seconds: float = 0.0
    """Processor seconds of all threads and of finished child processes."""
    peak_memory_gb: float = 0.0
    """Highest resident memory in gigabytes; see `Stopwatch`."""
    peak_gpu_memory_gb: float = 0.0
    """Highest memory that torch allocated on its CUDA device, in gigabytes; 0 without a device."""

    def __add__(self, other: StageCost) -> StageCost:
        """Adds seconds, and keeps the higher peaks."""
        return StageCost(
            self.wall_seconds + other.wall_seconds,
            self.processor_seconds + other.processor_seconds,
            max(self.peak_memory_gb, other.peak_memory_gb),
            max(self.peak_gpu_memory_gb, other.peak_gpu_memory_gb),
        )

    def rounded(self) -> StageCost:
        """Rounds to milliseconds and megabytes."""
        return StageCost(*(round(value, 3) for value in astuple(self)))


@dataclass(frozen=True)
class _Reading:
    """The clocks and the memory at one moment."""

    wall: float
    processor: float
    memory: int
    peak: int
    gpu_memory: int
    gpu_peak: int

    @classmethod
    def now(cls) -> _Reading:
        peak = _peak_memory()
        memory = (_resident_memory() or peak, peak)
        return cls(time.perf_counter(), _processor_seconds(), *memory, *_gpu_memory())

    def since(self, start: _Reading) -> StageCost:
        """The costs between an earlier reading and this one."""
        # The process reports only its highest memory ever. If that rose, it is the peak of this time.
        memory = self.peak if self.peak > start.peak else max(self.memory, start.memory)
        gpu_memory = self.gpu_peak if self.gpu_peak > start.gpu_peak else max(self.gpu_memory, start.gpu_memory)
        return StageCost(self.wall - start.wall, self.processor - start.processor, memory / 1e9, gpu_memory / 1e9)


class Stopwatch:
    """Costs of named stages, from the creation of the stopwatch on.

    The peak of memory of a stage is exact if it is the highest of the process so far. Otherwise it is the highest
    memory where stages begin and end, which may miss a short peak.
    """

    def __init__(self) -> None:
        self._costs: dict[str, StageCost] = {}
        self._open: list[str] = []
        self._reading = _Reading.now()

    @classmethod
    def of_process(cls) -> Stopwatch:
        """Makes a stopwatch that has booked everything since the start of the process to `STARTUP`."""
        watch = cls()
        created = _Reading(watch._reading.wall - seconds_since_start(), 0.0, 0, 0, 0, 0)
        watch._costs[STARTUP] = watch._reading.since(created)
        return watch

    @property
    def costs(self) -> dict[str, StageCost]:
        """The costs of all stages until now, in the order of their beginnings."""
        self._book()
        return dict(self._costs)

    @property
    def seconds(self) -> dict[str, float]:
        """The elapsed seconds of the named stages, rounded."""
        return {name: round(cost.wall_seconds, 2) for name, cost in self.costs.items() if name != OTHER}

    def cost(self, name: str) -> StageCost:
        """The costs of one stage until now."""
        return self.costs.get(name, StageCost())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Books the block to a stage, except for stages within the block."""
        self._book()
        self._costs.setdefault(name, StageCost())
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def switch(self, name: str) -> None:
        """Ends the innermost stage here and books the rest of its block to another stage; nothing outside of stages."""
        if self._open and self._open[-1] != name:
            self._book()
            self._open[-1] = name

    @contextmanager
    def running(self) -> Iterator[None]:
        """Makes `stage` of this module book to this stopwatch within the block, in this thread."""
        token = _RUNNING.set(self)
        try:
            yield
        finally:
            _RUNNING.reset(token)

    def _book(self) -> None:
        now = _Reading.now()
        name = self._open[-1] if self._open else OTHER
        self._costs[name] = self._costs.get(name, StageCost()) + now.since(self._reading)
        self._reading = now


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Books the block to a stage of the running stopwatch, if there is one."""
    watch = _RUNNING.get()
    with nullcontext() if watch is None else watch.stage(name):
        yield


@contextmanager
def running_stopwatch() -> Iterator[Stopwatch]:
    """Yields the running stopwatch, or a new one that runs within the block."""
    watch = _RUNNING.get()
    if watch is not None:
        yield watch
        return
    watch = Stopwatch()
    with watch.running():
        yield watch


def time_between(start: StageCost, end: StageCost) -> StageCost:
    """The costs of a stage between two moments; the peaks are those of the later one."""
    return replace(
        end,
        wall_seconds=end.wall_seconds - start.wall_seconds,
        processor_seconds=end.processor_seconds - start.processor_seconds,
    )


def peak_memory_gb() -> float:
    """The peak resident memory of this process and its finished children, in gigabytes; 0 on Windows."""
    return round(_peak_memory() / 1e9, 3)


def peak_gpu_memory_gb() -> float:
    """The peak memory of this process on its CUDA device, in gigabytes; 0 without a device."""
    return round(_gpu_memory()[1] / 1e9, 3)


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_memory() -> int:
    """The highest resident memory in bytes."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _resident_memory() -> int:
    """The resident memory in bytes; 0 where the system does not tell."""
    path = _statistics_of_memory()
    return 0 if path is None else int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@cache
def _statistics_of_memory() -> Path | None:
    path = Path("/proc/self/statm")
    return path if path.is_file() else None


def _gpu_memory() -> tuple[int, int]:
    """The memory that torch has allocated and its highest value, in bytes; zeros without CUDA or without torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return 0, 0
    return int(torch.cuda.memory_allocated()), int(torch.cuda.max_memory_allocated())
