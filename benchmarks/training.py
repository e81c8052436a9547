"""Times whole steps of the RGB phase for growing numbers of Gaussians and pixels, by part, with their memory.

    python benchmarks/training.py --json benchmarks/results/training.json

The method is `gen-langsplat-lite` without its limit on the number of Gaussians. Steps are those of the trainer, and
scene and images are generated. The size of the Gaussians decreases with their number, so that they cover the same area
of the screen. Every configuration runs in its own process, for a separate peak memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.progress import track
from support.benchmark import Benchmark, Goal, Results, Row, machine
from support.processes import in_own_process
from support.rgb_step import LOSS, OPTIMIZER, PARTS, STRATEGY, USUAL_COUNT, USUAL_SIZE, fit_memory, measure_steps
from support.tables import print_table

COUNTS, QUICK_COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000), (10_000, 30_000, 100_000)
SIZES, QUICK_SIZES = ((135, 240), (270, 480), (540, 960), (1080, 1920)), ((135, 240), (270, 480))


def digits(value: float) -> str:
    """Formats a time with three digits, or more for long times."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def print_steps(title: str, rows: list[Row]) -> None:
    """Prints one configuration per column."""
    headings = [f"{row['gaussians']:,}\n{row['height']}x{row['width']}" for row in rows]
    caption = "median (range); refinements are distributed over all steps"
    print_table(("ms", *headings), lines_of(rows), title, caption)


def lines_of(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """One line per part: the median of a step with its range, and of its parts."""
    lines = {"step": [row["step"] for row in rows]}
    lines |= {part: [row["parts"][part] for row in rows] for part in PARTS}
    lines |= {"one refinement": [row["refinement"] for row in rows]}
    for name, timings in lines.items():
        figures = [[digits(timing[key]) for key in ("median_ms", "min_ms", "max_ms")] for timing in timings]
        yield name, *(f"{median}\n({least} to {most})" for median, least, most in figures)
    yield "step, processor", *(digits(row["step"]["processor_ms"]) for row in rows)
    yield "steps a second", *(f"{row['steps_per_second']:.1f}" for row in rows)
    yield "peak GB", *(f"{row['peak_memory_gb']:.2f}" for row in rows)


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


@dataclass(frozen=True, kw_only=True)
class TrainingBenchmark(Benchmark):
    """Time and memory of the steps of the RGB phase."""

    quick: bool = False
    """Measure only up to 100,000 Gaussians and 270x480 pixels."""

    def measure(self) -> Results:
        """Measures growing numbers of Gaussians and of pixels."""
        CONSOLE.print(machine())
        counts, sizes = (QUICK_COUNTS, QUICK_SIZES) if self.quick else (COUNTS, SIZES)
        configurations = dict.fromkeys(
            [(count, USUAL_SIZE) for count in counts] + [(USUAL_COUNT, size) for size in sizes]
        )
        rows = {
            (count, size): in_own_process(measure_steps, count, *size)
            for count, size in track(configurations, "Training", total=len(configurations))
        }
        by_count = [rows[count, USUAL_SIZE] for count in counts]
        by_size = [rows[USUAL_COUNT, size] for size in sizes]
        print_steps("An RGB step as Gaussians grow", by_count)
        print_steps("An RGB step as pixels grow", by_size)
        return list(rows.values()), goals_of(by_count)


if __name__ == "__main__":
    TrainingBenchmark.main()
