"""Shared output of the benchmarks: the machine, the rows, and goals with the measured values."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path


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


def machine() -> dict[str, Any]:
    """Describes the machine of the measurements."""
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def write_results(path: Path | None, rows: list[dict[str, Any]], goals: list[Goal]) -> None:
    """Prints the goals and, if a path is given, writes everything as JSON. A missed goal is only reported."""
    table = Table("goal", "measured", "target", "met")
    for goal in goals:
        verdict = "[green]yes[/green]" if goal.met else "[red]no[/red]"
        table.add_row(goal.name, f"{goal.measured:.4g}", f"{goal.relation} {goal.target:g}", verdict)
    if goals:
        CONSOLE.print(table)
    if path is not None:
        bars = [
            {"name": goal.name, "measured": goal.measured, "relation": goal.relation, "bar": goal.target}
            for goal in goals
        ]
        document = {"machine": machine(), "rows": rows, "bars": bars}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(document, indent=1))


def options_of(description: str | None, quick: str) -> argparse.ArgumentParser:
    """The options of a benchmark with parts that run in their own processes (see `in_own_process`).

    Args:
        description: The text of the script.
        quick: What its `--quick` omits.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="output file for all figures")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    return parser


def worked(options: argparse.Namespace, work: Callable[[list[str]], dict[str, Any]]) -> bool:
    """Runs the part given by `--worker`, if any, and returns whether there was one."""
    if not options.worker:
        return False
    row = work(options.worker) | {"peak_memory_gb": peak_memory_gb()}
    if options.json:
        options.json.write_text(json.dumps(row))
    return True


def in_own_process(script: str, *arguments: str) -> dict[str, Any]:
    """Runs a part of a benchmark in a new process, for a separate peak memory, and returns the row it writes.

    Waiting threads sleep, as in the programs of the package.

    Args:
        script: The benchmark, which accepts `--worker` with the arguments and writes a row to `--json`.
        arguments: Which part to run.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "row.json"
        command = [sys.executable, "-W", "ignore", script, "--worker", *arguments, "--json", str(result)]
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        row: dict[str, Any] = json.loads(result.read_text())
        return row


def peak_memory_gb() -> float:
    """The peak memory of this process in gigabytes. The usual figure would include that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6
