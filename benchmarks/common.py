"""What every benchmark prints and writes: the machine, the rows, and the bars beside what was measured."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.files import atomic_path


@dataclass(frozen=True)
class Bar:
    """A goal and what was measured against it."""

    name: str
    measured: float
    relation: str
    bar: float

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.measured >= self.bar if self.relation == ">=" else self.measured <= self.bar


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
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


def write_results(path: Path | None, rows: list[dict[str, Any]], bars: list[Bar]) -> None:
    """Prints the bars and, when a path is given, writes everything as JSON. A missed bar is reported, not raised."""
    table = Table("bar", "measured", "wanted", "met")
    for bar in bars:
        verdict = "[green]yes[/green]" if bar.met else "[red]no[/red]"
        table.add_row(bar.name, f"{bar.measured:.4g}", f"{bar.relation} {bar.bar:g}", verdict)
    CONSOLE.print(table)
    if path is not None:
        document = {"machine": machine(), "rows": rows, "bars": [asdict(bar) for bar in bars]}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(document, indent=1))
