"""Times whole steps of the RGB phase for growing numbers of Gaussians and pixels, by part, with their memory.

The method is `gen-langsplat-lite` without its limit on the number of Gaussians. Steps are those of the trainer, and
scene and images are generated. The size of the Gaussians decreases with their number, so that they cover the same area
of the screen. Every configuration runs in its own process, for a separate peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from common import Goal, machine, write_results
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.progress import track
from rgb_step import LOSS, OPTIMIZER, PARTS, STRATEGY, USUAL_SIZE, measure

Row = dict[str, Any]

USUAL_COUNT = 100_000
COUNTS, QUICK_COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000), (10_000, 30_000, 100_000)
SIZES, QUICK_SIZES = ((135, 240), (270, 480), (540, 960), (1080, 1920)), ((135, 240), (270, 480))


def measure_apart(count: int, height: int, width: int) -> Row:
    """Measures one configuration in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "row.json"
        configuration = [str(number) for number in (count, height, width)]
        command = [sys.executable, "-W", "ignore", __file__, "--one", *configuration, "--json", str(result)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(result.read_text())


def digits(value: float) -> str:
    """Formats a time with three digits, or more for long times."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def print_table(title: str, rows: list[Row]) -> None:
    """One configuration per column: the median of a step with its range, and of its parts."""
    headers = [f"{row['gaussians']:,}\n{row['height']}x{row['width']}" for row in rows]
    table = Table("ms", *headers, title=title, caption="median (min max); refinements are distributed over all steps")
    lines = {"step": [row["step"] for row in rows]}
    lines |= {part: [row["parts"][part] for row in rows] for part in PARTS}
    lines |= {"one refinement": [row["refinement"] for row in rows]}
    for name, timings in lines.items():
        figures = [[digits(timing[key]) for key in ("median_ms", "min_ms", "max_ms")] for timing in timings]
        table.add_row(name, *(f"{median}\n({least} {most})" for median, least, most in figures))
    table.add_row("step, processor", *(digits(row["step"]["processor_ms"]) for row in rows))
    table.add_row("steps a second", *(f"{row['steps_per_second']:.1f}" for row in rows))
    table.add_row("peak GB", *(f"{row['peak_memory_gb']:.2f}" for row in rows))
    CONSOLE.print(table)


def fit_memory(rows: list[Row]) -> tuple[float, float, float]:
    """Linear fit of memory over Gaussians: bytes per Gaussian, bytes without Gaussians, and R^2."""
    counts = np.array([row["gaussians"] for row in rows])
    peaks = np.array([1e9 * row["peak_memory_gb"] for row in rows])
    slope, start = np.polyfit(counts, peaks, 1)
    return float(slope), float(start), float(np.corrcoef(counts, peaks)[0, 1] ** 2)


def goals_of(rows: list[Row]) -> list[Goal]:
    """The goals; `rows` are those of the usual image size, by number of Gaussians."""
    steps = {row["gaussians"]: row["step"]["median_ms"] for row in rows}
    usual = next(row for row in rows if row["gaussians"] == USUAL_COUNT)
    beside = sum(usual["parts"][part]["median_ms"] for part in (LOSS, OPTIMIZER, STRATEGY))
    share = beside / usual["step"]["median_ms"]
    goals = [Goal(f"loss + optimizer + strategy share of an RGB step, {USUAL_COUNT:,} Gaussians", share, "<=", 0.5)]
    for many in (USUAL_COUNT, 10 * USUAL_COUNT):
        if many in steps:
            name = f"growth of the step's cost from {many // 10:,} to {many:,} Gaussians"
            goals.append(Goal(name, steps[many] / steps[many // 10], "<=", 10.0))
    slope, start, fit = fit_memory(rows)
    CONSOLE.print(f"Peak memory: {start / 1e9:.2f} GB and {slope:.0f} bytes per Gaussian.")
    goals.append(Goal("memory growth per Gaussian: R^2 of a linear fit of memory over Gaussians", fit, ">=", 0.98))
    return goals


def plot(by_count: list[Row], by_size: list[Row], path: Path) -> None:
    """Plots step time over Gaussians and pixels, with lines of proportional cost, and memory over Gaussians."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    counts = [row["gaussians"] for row in by_count]
    pixels = [row["height"] * row["width"] for row in by_size]
    for axis, x, rows, label in (
        (axes[0], counts, by_count, "Gaussians"),
        (axes[1], pixels, by_size, "pixels"),
    ):
        steps = [row["step"]["median_ms"] for row in rows]
        axis.loglog(x, steps, "o-", color="black", label="step")
        for part in PARTS:
            axis.loglog(x, [row["parts"][part]["median_ms"] for row in rows], ".-", alpha=0.7, label=part)
        axis.loglog(x, [steps[0] * value / x[0] for value in x], "--", color="gray", label="proportional")
        axis.set(xlabel=label, ylabel="milliseconds")
    axes[0].legend(fontsize="small")
    slope, start, _ = fit_memory(by_count)
    axes[2].plot(counts, [row["peak_memory_gb"] for row in by_count], "o", color="black", label="peak")
    axes[2].plot(counts, [(start + slope * x) / 1e9 for x in counts], "--", color="gray", label="line")
    axes[2].set(xlabel="Gaussians", ylabel="peak memory in GB", ylim=(0, None))
    axes[2].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="output file for the figures")
    parser.add_argument("--quick", action="store_true", help="only up to 100,000 Gaussians and 270x480 pixels")
    parser.add_argument("--plot", type=Path, help="PNG file for the curves")
    parser.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        options.json.write_text(json.dumps(measure(*options.one)))
        return

    CONSOLE.print(machine())
    counts, sizes = (QUICK_COUNTS, QUICK_SIZES) if options.quick else (COUNTS, SIZES)
    configurations = dict.fromkeys([(count, USUAL_SIZE) for count in counts] + [(USUAL_COUNT, size) for size in sizes])
    rows = {
        (count, size): measure_apart(count, *size)
        for count, size in track(configurations, "Training", total=len(configurations))
    }
    by_count = [rows[count, USUAL_SIZE] for count in counts]
    by_size = [rows[USUAL_COUNT, size] for size in sizes]
    print_table("An RGB step as Gaussians grow", by_count)
    print_table("An RGB step as pixels grow", by_size)
    if options.plot is not None:
        plot(by_count, by_size, options.plot)
    write_results(options.json, list(rows.values()), goals_of(by_count))


if __name__ == "__main__":
    main()
