"""Parts of a benchmark in their own processes, and the memory of a process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

SPAWN = get_context("spawn")
"""New processes import the modules again, instead of sharing memory and threads with this one."""


def in_own_process(measure: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Measures a part of a benchmark in a new process, and returns its row with `peak_memory_gb` of that process.

    Args:
        measure: A function of a module, which returns the row. What it prints is not shown.
        arguments: Its arguments.
    """
    with _quiet_environment(), ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(_measure_with_peak, measure, *arguments).result()


def start_process(work: Callable[..., None], *arguments: object) -> BaseProcess:
    """Starts a function of a module in a new process, which the caller may kill."""
    process = SPAWN.Process(target=work, args=arguments)
    with _quiet_environment():
        process.start()
    return process


def peak_memory_gb() -> float:
    """The peak memory of this process in gigabytes. The usual figure would include that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6


def _measure_with_peak(measure: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return measure(*arguments) | {"peak_memory_gb": peak_memory_gb()}


@contextmanager
def _quiet_environment() -> Iterator[None]:
    """Variables for new processes: no warnings, and waiting threads that sleep, as in the programs of the package."""
    before = dict(os.environ)
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore", **before})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
