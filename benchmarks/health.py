"""Whether the report of a run names the fault that a run has, and no other.

    python benchmarks/health.py --json health.json
    python benchmarks/health.py --seeds 100 101 102 103 104    # for choosing thresholds

For every seed, a small gallery is trained healthily, and with one fault each: masks whose borders change from view to
view, latents optimized with a learning rate of 30, pieces of the geometry that moved, and an autoencoder of another
domain, which decodes the latents, or leaves that to the memory. Every run ends with a report; the table shows which
faults it names. Finished runs can be judged as well.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from genlangsplat_ns.features.encoders import load_encoder
from genlangsplat_ns.utils.console import CONSOLE
from support.benchmark import Benchmark, Goal, Results, Row
from support.health_faults import FAULTS, Health, health_of_all
from support.tables import mean_with_range, print_table


def row_of(run: str, seed: int | str, health: Health) -> Row:
    """The numbers of a run, and the faults that its report names."""
    numbers = {name: line["value"] for name, line in health.items()}
    return {"run": run, "seed": seed, "named": [name for name, line in health.items() if line["faulty"]], **numbers}


def verdicts(rows: list[Row]) -> list[Goal]:
    """The share of seeds in which exactly the expected faults were named."""
    goals = []
    for run, fault in FAULTS.items():
        found = [row for row in rows if row["run"] == run]
        right = sum(row["named"] == ([] if fault is None else [fault]) for row in found)
        if found:
            goals.append(Goal(f"{run}: only {fault or 'nothing'} named", right / len(found), ">=", 0.9))
    return goals


@dataclass(frozen=True, kw_only=True)
class HealthBenchmark(Benchmark):
    """Faults that the report of a run names."""

    seeds: tuple[int, ...] = tuple(range(10))
    """Seeds of the galleries, trainings and faults."""
    runs: tuple[Path, ...] = ()
    """The config.yml of finished runs that are healthy; they are judged too."""
    quick: bool = False
    """Only the first seed."""

    def measure(self) -> Results:
        """Trains, and shows the numbers and the named faults."""
        encoder = load_encoder("conse", "cpu")
        rows: list[Row] = []
        # nerfstudio keeps writing the log of earlier runs, so their folders stay until the end.
        with tempfile.TemporaryDirectory() as folder:
            for seed in self.seeds[:1] if self.quick else self.seeds:
                for run, health in health_of_all(Path(folder) / str(seed), seed, encoder).items():
                    rows.append(row_of(run, seed, health))
                    CONSOLE.print(rows[-1])
        rows += [row_of(str(path), "-", judge_run(path)) for path in self.runs]
        show(rows)
        return rows, verdicts(rows)


def judge_run(path: Path) -> Health:
    """The health of a finished run."""
    from genlangsplat_ns.run import open_run
    from genlangsplat_ns.scene.health_report import scene_health
    from genlangsplat_ns.scene.measured_views import MeasuredView, views_to_measure

    scene = open_run(path)
    views = [MeasuredView.render(scene, view) for view in views_to_measure(scene)]
    return {line.name: line.to_json() for line in scene_health(scene, views)}


def show(rows: list[Row]) -> None:
    """Prints the means of the numbers with their ranges, and how often each fault was named."""
    faults = [fault for fault in FAULTS.values() if fault is not None]
    lines = []
    for run in dict.fromkeys(row["run"] for row in rows):
        found = [row for row in rows if row["run"] == run]
        cells = []
        for fault in faults:
            values = [row[fault] for row in found if row[fault] is not None]
            named = sum(fault in row["named"] for row in found)
            cells.append(f"{mean_with_range(values, '.3f') if values else '-'}, named {named}")
        lines.append((run, str(len(found)), *cells))
    print_table(("run", "seeds", *faults), lines)


if __name__ == "__main__":
    HealthBenchmark.main()
