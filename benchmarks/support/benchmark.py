"""The settings of a benchmark as flags, its goals, and the results as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from genlangsplat_ns.utils.command_line import report_errors_plainly
from genlangsplat_ns.utils.files import atomic_path
from support.tables import print_table

Row = dict[str, Any]
"""Figures of one measurement, as they are written to JSON."""


@dataclass(frozen=True)
class Goal:
    """A goal and the measured value."""

    name: str
    measured: float
    relation: str
    target: float

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.measured >= self.target if self.relation == ">=" else self.measured <= self.target


Results = tuple[list[Row], list[Goal]]


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """A command that measures; the fields are its flags."""

    json: Path | None = None
    """JSON file for the machine, all figures and the goals."""
    quick: bool = False
    """Measure less."""

    @abstractmethod
    def measure(self) -> Results:
        """Measures, prints tables, and returns the figures and the goals."""

    @classmethod
    def main(cls) -> None:
        """Reads the flags, measures, prints the goals and writes the JSON file. A missed goal is only reported."""
        report_errors_plainly()
        # The text of the script introduces its flags.
        benchmark = tyro.cli(cls, description=sys.modules[cls.__module__].__doc__)
        rows, goals = benchmark.measure()
        print_goals(goals)
        if benchmark.json is not None:
            write_results(benchmark.json, rows, goals)


def machine() -> Row:
    """Describes the machine of the measurements."""
    return {
        "platform": platform.system(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def print_goals(goals: list[Goal]) -> None:
    """Prints which goals are met."""
    if goals:
        verdicts = {True: "[green]yes[/green]", False: "[red]no[/red]"}
        rows = (
            (goal.name, f"{goal.measured:.4g}", f"{goal.relation} {goal.target:g}", verdicts[goal.met])
            for goal in goals
        )
        print_table(("goal", "measured", "target", "met"), rows)


def write_results(path: Path, rows: list[Row], goals: list[Goal]) -> None:
    """Writes the machine, the figures and the goals."""
    bars = [
        {"name": goal.name, "measured": goal.measured, "relation": goal.relation, "bar": goal.target} for goal in goals
    ]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"machine": machine(), "rows": rows, "bars": bars}, indent=1))
