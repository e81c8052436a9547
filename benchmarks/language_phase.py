"""Measures the language phase: lifting compared with the paper's Adam, mask errors, levels, and a large scene.

    python benchmarks/language_phase.py --data DATA --json language.json --plot linear.png --plot-adam adam.png

DATA is the folder with `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Composed scenes have exact
labels. Latents are compared directly, so that neither an autoencoder nor texts affect the comparison of the solvers.
With --run CONFIG, lifting and Adam are also compared on a trained scene of photographs. Every part runs in its own
process.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from rich.table import Table

from common import Goal, in_own_process, options_of, worked, write_results
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.utils.console import CONSOLE
from language_adam import PAPER_STEPS
from language_large import lift_large
from language_race import SCENES, measure_adam, measure_run
from language_race_report import plot_race, show_race
from language_scene import latent_scene, score

Row = dict[str, Any]

VARIANTS = {
    "plain": LiftSettings(robust_rounds=0),
    "robust (default)": LiftSettings(),
}
MISLABELED = (0.0, 0.3)
NO_FOLDER = "-"


def measure_errors(data: Path, seed: int, variants: Iterable[str]) -> Row:
    """Every variant of the solver on a scene with and without mislabeled regions."""
    scene = latent_scene(data, seed)
    rows = []
    for share in MISLABELED:
        labeled = scene.mislabeled(share)
        for name in variants:
            start = time.process_time()
            lifted = lift_latents(labeled.training(), *labeled.shape, VARIANTS[name])
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


def work(arguments: list[str]) -> Row:
    """Runs one part in its own process."""
    kind, *rest = arguments
    if kind == "errors":
        return measure_errors(Path(rest[0]), int(rest[1]), rest[2].split(";"))
    if kind == "levels":
        return measure_levels(Path(rest[0]), int(rest[1]))
    if kind == "adam":
        return measure_adam(Path(rest[0]), rest[1], int(rest[2]), rest[3] == "quick", _folder(rest[4]))
    if kind == "large":
        return lift_large(int(rest[0]), int(rest[1]), int(rest[2]))
    if kind == "run":
        return measure_run(Path(rest[0]), rest[1] == "quick", _folder(rest[2]))
    raise GenLangSplatError(f"Found the unknown part {kind}; expected one that this script starts.")


def _folder(argument: str) -> Path | None:
    """The folder passed to a part, if any."""
    return None if argument == NO_FOLDER else Path(argument)


def run_parts(options: Any) -> tuple[list[Row], list[Goal]]:
    """Measures and prints each part, and returns all rows and goals."""
    data, quick = str(options.data.resolve()), options.quick
    wanted = options.parts or ["errors", "levels", "adam", "large"]
    rows = [row for path in options.earlier for row in json.loads(path.read_text())["rows"] if "curves" in row]
    goals: list[Goal] = []

    def measured(*calls: tuple[str, ...]) -> list[Row]:
        found = []
        for call in calls:
            CONSOLE.print(f"Measuring {' '.join(call)}.")
            found.append(in_own_process(__file__, *call))
        rows.extend(found)
        return found

    if "errors" in wanted:
        few, all_of_them = ";".join(list(VARIANTS)[:2]), ";".join(VARIANTS)
        seeds = range(1 if quick else options.seeds)
        calls = (("errors", data, str(seed), few if quick or seed > 2 else all_of_them) for seed in seeds)
        goals += show_errors(measured(*calls))
    if "levels" in wanted:
        goals += show_levels(measured(("levels", data, "1" if quick else "3")))
    how = ("quick" if quick else "full", str(options.latents.resolve()) if options.latents else NO_FOLDER)
    if "adam" in wanted:
        measured(*(("adam", data, name, str(options.steps), *how) for name in (list(SCENES)[:1] if quick else SCENES)))
    if options.run is not None:
        measured(("run", str(options.run.resolve()), *how))
    races = [row for row in rows if "curves" in row]
    goals += show_race(races)
    if races and options.plot_adam is not None:
        plot_race(races, options.plot_adam)
    if "large" in wanted:
        size = ("100000", "20") if quick else ("1000000", "300")
        goals += show_large(measured(("large", *size, "0"), ("large", *size, "2")), options.plot)
    return rows, goals


def show_errors(found: list[Row]) -> list[Goal]:
    """Means and spread over the scenes."""
    table = Table("solver", "mislabeled", "mIoU", "cosine", "processor seconds")
    means: dict[tuple[str, float], float] = {}
    for name in VARIANTS:
        for share in MISLABELED:
            rows = [
                row for scene in found for row in scene["rows"] if (row["variant"], row["mislabeled"]) == (name, share)
            ]
            if rows:
                means[name, share] = statistics.mean(row["miou"] for row in rows)
                spread = (_spread([row[key] for row in rows]) for key in ("miou", "cosine", "processor_seconds"))
                table.add_row(name, f"{share:.0%}", *spread)
    CONSOLE.print(table)
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
    table = Table("levels", "processor seconds")
    for name, values in seconds.items():
        table.add_row(name, _spread(values))
    CONSOLE.print(table)
    ratio = statistics.median(seconds["three"]) / statistics.median(seconds["one"])
    return [Goal("robust, three levels relative to one", ratio, "<=", 2)]


def show_large(found: list[Row], plot: Path | None) -> list[Goal]:
    """Time and memory of the large scene, and the linearity of its times."""
    table = Table("solver", "Gaussians", "views", "seconds", "processor seconds", "peak GB")
    for row in found:
        name = "robust" if row["rounds"] else "plain"
        figures = (f"{row[key]:.0f}" for key in ("seconds", "processor_seconds"))
        table.add_row(name, f"{row['gaussians']:,}", str(row["views"]), *figures, f"{row['peak_memory_gb']:.2f}")
    CONSOLE.print(table)
    marks = np.array(found[0]["marks"])
    slope = (marks * marks[:, :1]).sum(axis=0)[1] / (marks[:, 0] ** 2).sum()
    off = float(np.abs(marks[:, 1] - slope * marks[:, 0]).max() / marks[-1, 1])
    if plot is not None:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        axes.plot(*marks.T, "o", label="measured")
        axes.plot(marks[:, 0], slope * marks[:, 0], label=f"{slope:.2f} s per view")
        axes.set(xlabel="views", ylabel="processor seconds", title=f"Lifting onto {found[0]['gaussians']:,} Gaussians")
        axes.legend()
        figure.savefig(plot, dpi=120, bbox_inches="tight")
        CONSOLE.print(f"Wrote {plot}.")
    peak = max(row["peak_memory_gb"] for row in found)
    plain, robust = (row["processor_seconds"] for row in found)
    return [
        Goal("large scene, processor time of robust relative to plain", robust / plain, "<=", 1.6),
        Goal("large scene, peak memory in GB", peak, "<=", 6),
        Goal("large scene, maximum deviation from a line through zero, relative to the total", off, "<=", 0.1),
    ]


def _spread(values: list[float]) -> str:
    """Formats the mean, and the minimum and maximum if they differ."""
    mean = f"{statistics.mean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4g} to {max(values):.4g})"


def main() -> None:
    """Runs everything, or one part in its own process."""
    parser = options_of(__doc__, "fewer scenes, steps and views")
    parser.add_argument("--data", type=Path, help="folder of all data sets")
    parser.add_argument("--run", type=Path, help="config.yml of a trained run to measure as well")
    parser.add_argument("--seeds", type=int, default=5, help="number of composed scenes for the mask errors")
    parser.add_argument(
        "--parts", nargs="+", choices=("errors", "levels", "adam", "large", "none"), help="parts to run"
    )
    parser.add_argument("--plot", type=Path, help="PNG file for the plot of time over views")
    parser.add_argument("--plot-adam", type=Path, help="PNG file for the plot of lifting and Adam over time")
    parser.add_argument("--steps", type=int, default=PAPER_STEPS, help="number of steps of Adam on the small scene")
    parser.add_argument("--latents", type=Path, help="folder for the latents of lifting and of Adam's best stop")
    parser.add_argument(
        "--earlier", nargs="+", type=Path, default=[], help="result files of earlier runs to show again"
    )
    options = parser.parse_args()
    if worked(options, work):
        return
    if options.data is None:
        raise SystemExit("Found no data folder. Give the folder of all data sets with --data.")
    rows, goals = run_parts(options)
    write_results(options.json, rows, goals)


if __name__ == "__main__":
    main()
