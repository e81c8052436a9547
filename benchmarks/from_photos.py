"""Makes scenes of photographs without cameras: the fox, trained and queried, and other folders, cameras only.

    python benchmarks/from_photos.py --fox FOX/images --others KITCHEN/images --output OUT --json from_photos.json

The command of the fox goes from photographs to answers. The memory is that of the largest of its processes.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fox import ask_views, mean
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.run import open_run
from support.benchmark import Benchmark, Goal, Results, Row
from support.tables import print_table

TEXT = "a fox"


def make_scene(photographs: Path, output: Path, *words: str) -> Row:
    """Runs the command on photographs, and returns its outcome and costs."""
    shutil.rmtree(output, ignore_errors=True)
    command = ["from-photos", str(photographs), "--output-dir", str(output), *words]
    program = "import sys; from genlangsplat_ns.cli import main; sys.argv[0] = 'gen-langsplat'; main()"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program, *command], check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome: dict[str, Any] = json.loads((output / "colmap" / "outcome.json").read_text())
    return {
        "source": str(photographs),
        "command": " ".join(["gen-langsplat", *command]),
        **outcome,
        "seconds": seconds,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "memory_gb": after.ru_maxrss * 1024 / 1e9,
    }


def ask(output: Path) -> Row:
    """Compares the answers of the only run of a scene with the outlines of the fox."""
    torch.manual_seed(0)
    (config,) = output.glob("runs/*/*/config.yml")
    rows = ask_views(open_run(config), TextQuery((TEXT,)))
    visible = [row for row in rows if row["visible"]]
    threshold = TextQuery.threshold
    overlaps = [row["iou"][threshold] for row in visible if row["outlined"]]
    return {
        "iou": mean(overlaps),
        "outlines": len(overlaps),
        "peaks": mean([row["hit"] for row in visible]),
        "rows": rows,
    }


@dataclass(frozen=True, kw_only=True)
class FromPhotosBenchmark(Benchmark):
    """Scenes of photographs without cameras."""

    fox: Path
    """Folder of the photographs of the fox."""
    output: Path
    """Folder for the scenes, which are replaced."""
    others: tuple[Path, ...] = ()
    """Folders of photographs whose cameras alone are computed."""
    quick: bool = False
    """Only compute the cameras of the fox."""

    def measure(self) -> Results:
        """Runs the command for every folder."""
        # Before the fox, because the system says only what the largest of all processes so far took.
        rows, goals = [], []
        for number, folder in enumerate(() if self.quick else self.others):
            row = make_scene(folder, self.output / f"other-{number}")
            goals.append(Goal(f"share with a camera in {folder}", row["placed"] / row["photographs"], ">=", 1.0))
            rows.append(row)
        training = () if self.quick else ("--train", "--text", TEXT)
        fox = make_scene(self.fox, self.output / "fox", *training)
        goals.append(Goal("share with a camera of the fox", fox["placed"] / fox["photographs"], ">=", 1.0))
        if not self.quick:
            fox |= ask(self.output / "fox")
            goals += [
                Goal(f"mean IoU of the mask of '{TEXT}' in outlined views", fox["iou"], ">=", 0.65),
                Goal(f"share of peaks of '{TEXT}' on the fox", fox["peaks"], ">=", 0.9),
                Goal("minutes from photographs to answers", fox["seconds"] / 60, "<=", 12.0),
                Goal("memory in GB", fox["memory_gb"], "<=", 6.0),
            ]
        rows.append(fox)
        cells = [
            (
                row["source"],
                f"{row['placed']} of {row['photographs']}",
                f"{row['error']:.2f} px",
                f"{row['points']:,}",
                f"{row['seconds']:.0f} s",
                f"{row['processor_seconds']:.0f} s",
                f"{row['memory_gb']:.1f} GB",
            )
            for row in rows
        ]
        print_table(("folder", "cameras", "error", "points", "wall clock", "processor", "memory"), cells)
        return rows, goals


if __name__ == "__main__":
    FromPhotosBenchmark.main()
