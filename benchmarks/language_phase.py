"""Measures the language phase: lifting compared with the paper's Adam, mask errors, levels, and a large scene.

    python benchmarks/language_phase.py --data DATA --json benchmarks/results/language_phase.json

DATA is the folder with `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Composed scenes have exact
labels. Latents are compared directly, so that neither an autoencoder nor texts affect the comparison of the solvers.
With --run CONFIG, lifting and Adam are also compared on a trained scene of photographs. Every part runs in its own
process.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.utils.console import CONSOLE
from support.benchmark import Benchmark, Goal, Results, Row
from support.language_adam import PAPER_STEPS
from support.language_large import lift_large
from support.language_race import SCENES, measure_adam, measure_run
from support.language_race_report import show_race
from support.language_scene import latent_scene, score
from support.processes import in_own_process
from support.tables import mean_with_range, print_table

PartName = Literal["errors", "levels", "adam", "large"]

VARIANTS = {
    "plain": LiftSettings(robust_rounds=0),
    "robust (default)": LiftSettings(),
}
MISLABELED = (0.0, 0.3)


def measure_errors(data: Path, seed: int) -> Row:
    """Every variant of the solver on a scene with and without mislabeled regions."""
    scene = latent_scene(data, seed)
    rows = []
    for share in MISLABELED:
        labeled = scene.mislabeled(share)
        for name, settings in VARIANTS.items():
            start = time.process_time()
            lifted = lift_latents(labeled.training(), *labeled.shape, settings)
            seconds = time.process_time() - start
            found = score(labeled, lifted.latents)
            rows.append({"variant": name, "mislabeled": share, "processor_seconds": seconds, **vars(found)})
    return {"part": "errors", "seed": seed, "gaussians": scene.num_gaussians, "rows": rows}


def measure_levels(data: Path, repetitions: int) -> Row:
    """Three levels compared with one."""
    scene = latent_scene(data, 0)
    seconds: dict[str, list[float]] = {"one": [], "three": []}
    num_gaussians, _, latent_dim = scene.shape
    for _ in range(repetitions):
        for name, levels in {"one": slice(1, 2), "three": slice(None)}.items():
            count = 1 if name == "one" else 3
            start = time.process_time()
            # A run computes the weights as well.
            views = scene.with_new_weights().training(levels)
            lift_latents(views, num_gaussians, count, latent_dim, LiftSettings())
            seconds[name].append(time.process_time() - start)
    return {"part": "levels", "processor_seconds": seconds}


def show_errors(found: list[Row]) -> list[Goal]:
    """Means and spread over the scenes."""
    lines = []
    for name in VARIANTS:
        for share in MISLABELED:
            rows = [
                row for scene in found for row in scene["rows"] if (row["variant"], row["mislabeled"]) == (name, share)
            ]
            if rows:
                figures = ([row[key] for row in rows] for key in ("miou", "cosine", "processor_seconds"))
                lines.append((name, f"{share:.0%}", *(mean_with_range(values, ".4g") for values in figures)))
    print_table(("solver", "mislabeled", "mIoU", "cosine", "processor seconds"), lines)
    robust = [
        {row["mislabeled"]: row["miou"] for row in scene["rows"] if row["variant"] == "robust (default)"}
        for scene in found
    ]
    losses = [100 * (scene[0.0] - scene[MISLABELED[1]]) for scene in robust]
    return [
        Goal("robust, points of mIoU lost to 30 % mislabeled (mean of scenes)", statistics.mean(losses), "<=", 5),
        Goal("robust, points of mIoU lost (worst scene)", max(losses), "<=", 5),
    ]


def show_levels(found: list[Row]) -> list[Goal]:
    """Time of three levels relative to one."""
    seconds = found[0]["processor_seconds"]
    lines = ((name, mean_with_range(values, ".4g")) for name, values in seconds.items())
    print_table(("levels", "processor seconds"), lines)
    ratio = statistics.median(seconds["three"]) / statistics.median(seconds["one"])
    return [Goal("robust, three levels relative to one", ratio, "<=", 2)]


def show_large(found: list[Row]) -> list[Goal]:
    """Time and memory of the large scene, and the linearity of its times."""
    lines = []
    for row in found:
        name = "robust" if row["rounds"] else "plain"
        figures = (f"{row[key]:.0f}" for key in ("seconds", "processor_seconds"))
        lines.append((name, f"{row['gaussians']:,}", str(row["views"]), *figures, f"{row['peak_memory_gb']:.2f}"))
    print_table(("solver", "Gaussians", "views", "seconds", "processor seconds", "peak GB"), lines)
    marks = np.array(found[0]["marks"])
    slope = (marks * marks[:, :1]).sum(axis=0)[1] / (marks[:, 0] ** 2).sum()
    off = float(np.abs(marks[:, 1] - slope * marks[:, 0]).max() / marks[-1, 1])
    peak = max(row["peak_memory_gb"] for row in found)
    plain, robust = (row["processor_seconds"] for row in found)
    return [
        Goal("large scene, processor time of robust relative to plain", robust / plain, "<=", 1.6),
        Goal("large scene, peak memory in GB", peak, "<=", 6),
        Goal("large scene, maximum deviation from a line through zero, relative to the total", off, "<=", 0.1),
    ]


@dataclass(frozen=True, kw_only=True)
class LanguagePhaseBenchmark(Benchmark):
    """Lifting, and its comparison with Adam."""

    data: Path
    """Folder of all data sets."""
    run: Path | None = None
    """config.yml of a trained run to measure as well."""
    seeds: int = 5
    """Number of composed scenes for the mask errors."""
    parts: tuple[PartName, ...] = get_args(PartName)
    """Parts to run; none without a part."""
    steps: int = PAPER_STEPS
    """Number of steps of Adam on the small scene."""
    latents: Path | None = None
    """Folder for the latents of lifting and of Adam's best stop."""
    earlier: tuple[Path, ...] = ()
    """Result files of earlier runs to show again."""
    quick: bool = False
    """Measure fewer scenes, steps and views."""

    def measure(self) -> Results:
        """Measures and prints each part."""
        data, quick = self.data, self.quick
        rows = [row for path in self.earlier for row in json.loads(path.read_text())["rows"] if "curves" in row]
        goals: list[Goal] = []

        def measured(part: Callable[..., Row], *calls: tuple[Any, ...]) -> list[Row]:
            found = []
            for call in calls:
                CONSOLE.print(f"Measuring {part.__name__} {' '.join(map(str, call))}.")
                found.append(in_own_process(part, *call))
            rows.extend(found)
            return found

        if "errors" in self.parts:
            seeds = range(1 if quick else self.seeds)
            goals += show_errors(measured(measure_errors, *((data, seed) for seed in seeds)))
        if "levels" in self.parts:
            goals += show_levels(measured(measure_levels, (data, 1 if quick else 3)))
        if "adam" in self.parts:
            names = list(SCENES)[: 1 if quick else None]
            measured(measure_adam, *((data, name, self.steps, quick, self.latents) for name in names))
        if self.run is not None:
            measured(measure_run, (self.run, quick, self.latents))
        races = [row for row in rows if "curves" in row]
        goals += show_race(races)
        if "large" in self.parts:
            size = (100_000, 20) if quick else (1_000_000, 300)
            goals += show_large(measured(lift_large, (*size, 0), (*size, 2)))
        return rows, goals


if __name__ == "__main__":
    LanguagePhaseBenchmark.main()
