"""Times each build of the CPU rasterizer, compared with other programs and the machine's peak.

    python benchmarks/rasterizer.py --garden test_garden.npz --json rasterizer.json

The scene has the sparse points of the Mip-NeRF 360 garden as in gsplat's tests, with synthetic shapes and opacities.
Without the file, a synthetic scene of the same size replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import compositing_weights, library
from genlangsplat_ns.utils.console import CONSOLE
from support import competitors
from support.benchmark import Benchmark, Goal, Results, machine
from support.competitors import CHANNELS
from support.garden import GARDEN, GardenScene, load_scene
from support.roofline import Work, count_work, describe, measure_peak
from support.tables import print_table, with_range
from support.timing import Timing

Column = dict[str, Timing]


def time_columns(scene: GardenScene, repetitions: int, outside: dict[str, str]) -> dict[str, Column]:
    """All columns by title; the fastest build comes first."""
    columns: dict[str, Column] = {}
    named = os.environ.get("GENLANGSPLAT_ISA")
    try:
        for build in library.available_instruction_sets():
            os.environ["GENLANGSPLAT_ISA"] = build
            columns[f"ours, {build}"] = _timed(f"ours, {build}", competitors.time_ours, scene, repetitions)
    finally:
        os.environ.pop("GENLANGSPLAT_ISA")
        if named is not None:
            os.environ["GENLANGSPLAT_ISA"] = named
    for name, command in outside.items():
        columns[name] = competitors.time_outside(scene, command, min(repetitions, 5))
    return columns


def _timed(title: str, measure: Callable[[GardenScene, int], Column], scene: GardenScene, repetitions: int) -> Column:
    with CONSOLE.status(f"Timing {title} ..."):
        return measure(scene, repetitions)


def print_times(title: str, columns: dict[str, Column]) -> None:
    """Prints medians of wall time with their range, and processor time below."""

    def cell(timing: Timing | None) -> str:
        if timing is None:
            return ""
        wall = with_range(timing.median, min(timing.wall), max(timing.wall), ".2f")
        return f"{wall}\n{timing.row()['processor_ms']:.2f} cpu" if timing.processor else wall

    print_table(
        ("milliseconds", *columns),
        (
            (row, *(cell(column.get(row)) for column in columns.values()))
            for row in dict.fromkeys(row for column in columns.values() for row in column)
        ),
        title,
        caption="median (range), processor time of all threads",
    )


def passes(scene: GardenScene) -> dict[str, Work]:
    """The work of each pass that composites, by its row."""
    weights = compositing_weights(scene.gaussians, scene.view)
    lanes = weights.num_entries / weights.num_visits
    CONSOLE.print(
        f"{weights.num_entries / 1e6:.2f} million pairs of a pixel and a Gaussian in {weights.num_visits / 1e6:.2f} "
        f"million visits ({lanes:.1f} of 16 lanes useful), {weights.nbytes / 1e6:.0f} MB"
    )
    works = {}
    for channels in CHANNELS:
        works[f"composite {channels}"] = count_work(weights, channels, backward=False)
        works[f"composite {channels}, backward"] = count_work(weights, channels, backward=True)
    return works


def print_roofline(columns: dict[str, Column], works: dict[str, Work], peak: float) -> None:
    """Prints rates and shares of the peak."""
    headings = ("pass", "column", "GFLOP", "GFLOP/s", "of peak", "useful", "MB", "GB/s")
    print_table(headings, roofline_lines(columns, works, peak), title="Relative to the peak")


def roofline_lines(columns: dict[str, Column], works: dict[str, Work], peak: float) -> Iterator[tuple[str, ...]]:
    """One line for every compositing pass and column that has it."""
    for row, work in works.items():
        for title, column in columns.items():
            if row not in column:
                continue
            figures = work.row(column[row].median / 1e3, peak)
            shares = (f"{100 * figures[key]:.1f} %" for key in ("share_of_peak", "useful_share_of_peak"))
            rates = (f"{figures[key]:.2f}" for key in ("gigaflop", "gigaflop_per_second"))
            memory = (f"{figures[key]:.1f}" for key in ("megabytes", "gigabytes_per_second"))
            yield row, title, *rates, *shares, *memory


def goals_of(columns: dict[str, Column], works: dict[str, Work], peak: float) -> list[Goal]:
    """The goals that can be checked in one run."""
    builds = [column for title, column in columns.items() if title.startswith("ours")]
    ours = builds[0]
    goals = []
    for row in ("render 48", "render 48, backward"):
        cost = ours[row].median / ours[row.replace("48", "3")].median
        goals.append(Goal(f"{row}: cost relative to 3 channels", cost, "<=", 3.5))
    for row in ("composite 3", "composite 3, backward"):
        share = works[row].row(ours[row].median / 1e3, peak)["share_of_peak"]
        goals.append(Goal(f"{row}: share of the fp32 peak, all lanes", share, ">=", 0.25))
    avx2 = columns.get("ours, avx2")
    if avx2 is not None and avx2 is not ours:
        for row in ("render 3", "render 3, backward", "RGB step"):
            goals.append(Goal(f"{row}: AVX2 relative to AVX-512", avx2[row].median / ours[row].median, "<=", 2.0))
    return goals


@dataclass(frozen=True, kw_only=True)
class RasterizerBenchmark(Benchmark):
    """Times of the passes of the CPU rasterizer."""

    garden: Path = GARDEN
    """gsplat's test_garden.npz."""
    outside: tuple[str, ...] = ()
    """Other programs, each as NAME=COMMAND; see benchmarks/README.md."""
    quick: bool = False
    """Measure a quarter of the resolution, in seconds instead of minutes."""

    def measure(self) -> Results:
        """Times all columns."""
        torch.manual_seed(0)
        commands = dict(map(named_command, self.outside))
        scene = load_scene(self.garden, shrink=4 if self.quick else 1)
        peak = measure_peak(torch.get_num_threads())
        CONSOLE.print(machine(), describe(peak))
        columns = time_columns(scene, 9, commands)
        works = passes(scene)
        print_times(scene.title, columns)
        print_roofline(columns, works, peak)
        rows = [
            {"scene": scene.title, "column": title, "row": row, **timing.row()}
            | (works[row].row(timing.median / 1e3, peak) if row in works else {})
            for title, column in columns.items()
            for row, timing in column.items()
        ]
        return rows, goals_of(columns, works, peak)


def named_command(entry: str) -> tuple[str, str]:
    """Splits NAME=COMMAND."""
    name, equals, command = entry.partition("=")
    if not (name and equals and command):
        raise GenLangSplatError(f"Found the program {entry!r}; expected NAME=COMMAND. See benchmarks/README.md.")
    return name, command


if __name__ == "__main__":
    RasterizerBenchmark.main()
