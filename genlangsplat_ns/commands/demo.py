"""`gen-langsplat demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """Build the gallery scene, train both phases, ask texts, and write pictures and a report to look at."""

    output_dir: Path = Path("demo-output")
    """Folder for the scene, the run, the pictures and the report."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.demo.training import run_gallery_demo

        run_gallery_demo(self.output_dir)
