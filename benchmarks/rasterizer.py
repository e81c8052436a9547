"""Times each build of the CPU rasterizer, compared with other programs and the machine's peak.

The scene has the sparse points of the Mip-NeRF 360 garden as in gsplat's tests, with synthetic shapes and opacities:
`--garden FILE` is gsplat's `test_garden.npz`. Without the file, a synthetic scene of the same size replaces it.
`--outside NAME=COMMAND` adds the training steps of another program; see README.md in this folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import torch
from rich.table import Table

import competitors
from common import Goal, machine, write_results
from competitors import CHANNELS
from garden import GARDEN, GardenScene, load_scene
from genlangsplat_ns.rasterization import compositing_weights, library
from genlangsplat_ns.utils.console import CONSOLE
from roofline import Work, count_work, describe, measure_peak
from timing import Timing

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


def print_table(title: str, columns: dict[str, Column]) -> None:
    """Medians of wall time with their range, and processor time below."""
    table = Table("milliseconds", *columns, title=title, caption="median (min max), processor time of all threads")
    # The first column has every row except those of other programs.
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        cells = []
        for column in columns.values():
            timing = column.get(row)
            if timing is None:
                cells.append("")
                continue
            figures = timing.row()
            spread = f"({figures['min_ms']:.2f} {figures['max_ms']:.2f})"
            processor = f"\n{figures['processor_ms']:.2f} cpu" if timing.processor else ""
            cells.append(f"{timing.median:.2f} {spread}{processor}")
        table.add_row(row, *cells)
    CONSOLE.print(table)


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
    """Rates and shares of the peak for every column with compositing passes."""
    table = Table("pass", "column", "GFLOP", "GFLOP/s", "of peak", "useful", "MB", "GB/s", title="Relative to the peak")
    for row, work in works.items():
        for title, column in columns.items():
            if row not in column:
                continue
            figures = work.row(column[row].median / 1e3, peak)
            shares = (f"{100 * figures[key]:.1f} %" for key in ("share_of_peak", "useful_share_of_peak"))
            rates = (f"{figures[key]:.2f}" for key in ("gigaflop", "gigaflop_per_second"))
            memory = (f"{figures[key]:.1f}" for key in ("megabytes", "gigabytes_per_second"))
            table.add_row(row, title, *rates, *shares, *memory)
    CONSOLE.print(table)


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


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="output file for the figures")
    parser.add_argument("--quick", action="store_true", help="a quarter of the resolution, seconds instead of minutes")
    parser.add_argument("--garden", type=Path, default=GARDEN, help="gsplat's test_garden.npz")
    parser.add_argument("--outside", action="append", default=[], metavar="NAME=COMMAND", help="see README.md")
    options = parser.parse_args()

    torch.manual_seed(0)
    scene = load_scene(options.garden, shrink=4 if options.quick else 1)
    peak = measure_peak(torch.get_num_threads())
    CONSOLE.print(machine(), describe(peak))
    outside = dict(entry.split("=", 1) for entry in options.outside)
    columns = time_columns(scene, 9, outside)
    works = passes(scene)
    print_table(scene.title, columns)
    print_roofline(columns, works, peak)
    rows = [
        {"scene": scene.title, "column": title, "row": row, **timing.row()}
        | (works[row].row(timing.median / 1e3, peak) if row in works else {})
        for title, column in columns.items()
        for row, timing in column.items()
    ]
    write_results(options.json, rows, goals_of(columns, works, peak))


if __name__ == "__main__":
    main()
