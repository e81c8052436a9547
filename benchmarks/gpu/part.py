"""Runs one part of the check in this process, and writes its figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

FUNCTIONS = {
    "environment": "software_parts",
    "build": "software_parts",
    "tests": "software_parts",
    "gallery": "scene_parts",
    "fox": "scene_parts",
    "agreement": "scene_parts",
    "steps": "time_parts",
    "language": "time_parts",
}
"""The module of each part, which has a function of its name."""


class Skipped(Exception):
    """A part cannot run here; the message says why."""


@dataclass
class Settings:
    """What a part knows, and the figures that it reports."""

    folder: Path
    """Folder of all runs."""
    device: str
    fox: Path
    """Folder of the fox scene."""
    quick: bool
    """Whether to use tiny scenes and few steps."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def report(self, name: str, value: float | int | str, unit: str = "") -> None:
        """Adds a figure."""
        self.rows.append({"name": name, "value": value, "unit": unit})

    def size(self, usual: int, quick: int) -> int:
        """One of two numbers."""
        return quick if self.quick else usual

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a card."""
        return self.device.startswith("cuda")


def run(name: str, settings: Settings, function: Callable[[Settings], None] | None = None) -> dict[str, Any]:
    """Runs a part, and returns its figures and its peaks of memory; or why it was skipped."""
    function = function or getattr(import_module(f"gpu.{FUNCTIONS[name]}"), name)
    try:
        function(settings)
    except Skipped as reason:
        return {"rows": settings.rows, "skipped": str(reason)}
    report_memory(settings)
    return {"rows": settings.rows}


def report_memory(settings: Settings) -> None:
    """Adds the peaks of memory of this process."""
    from genlangsplat_ns.utils.stopwatch import peak_gpu_memory_gb, peak_memory_gb

    settings.report("peak memory", peak_memory_gb(), "GB")
    if settings.on_cuda and (peak := peak_gpu_memory_gb()):
        settings.report("peak memory of the card", peak, "GB")


def main(arguments: list[str] | None = None) -> None:
    """Runs the part that the command names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=list(FUNCTIONS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("device")
    parser.add_argument("fox", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if options.device == "cpu":
        # Runs are opened on the card if torch sees one.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    settings = Settings(options.folder, options.device, options.fox, options.quick)
    result = options.folder / f"{options.name}.json"
    try:
        document = run(options.name, settings)
    finally:
        # A part that fails keeps the figures that it has.
        result.write_text(json.dumps({"rows": settings.rows}))
    result.write_text(json.dumps(document))


if __name__ == "__main__":
    sys.exit(main())
