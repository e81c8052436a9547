"""Whether commands keep their word under kills, faults and long loads.

    python benchmarks/robustness.py --parts kills --kills 200 --seed 24
    python benchmarks/robustness.py --parts faults --faults 40
    python benchmarks/robustness.py --parts fuzz sanitizers
    python benchmarks/robustness.py --parts lifts views queries --json robustness.json
    python benchmarks/robustness.py --parts clients --minutes 10

Kills and faults happen to real commands on a scene of six views (`tests/robustness`): after each, the same command runs
again. Changed files are given to all readers of files, and hostile scenes to the kernels, compiled with sanitizers.
Loads run in one process; the slope of its memory has a 95 % confidence interval. Clients are tabs of a headless browser
in front of `ns-viewer` and `gen-langsplat view`: they ask, look around, and vanish at any moment.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE
from support import robustness_load
from support.benchmark import Benchmark, Goal, Results, Row
from support.processes import in_own_process
from support.tables import print_table

ROOT = Path(__file__).parents[1]
# The series and their fakes are tests too.
sys.path.insert(0, str(ROOT))

PartName = Literal["kills", "faults", "fuzz", "sanitizers", "lifts", "views", "queries", "clients"]


@dataclass(frozen=True, kw_only=True)
class RobustnessBenchmark(Benchmark):
    """Kills, faults, hostile files and scenes, and loads."""

    parts: tuple[PartName, ...] = get_args(PartName)
    """What is measured."""
    seed: int = 24
    """Seed of the moments, operations and scenes."""
    kills: int = 200
    """Kills, spread over the stages."""
    faults: int = 40
    """Operations of each stage and kind of fault that fail, at most; 0 for every one."""
    stages: tuple[str, ...] = ()
    """Stages that are killed or that fail; all by default."""
    inputs: int = 1_000_000
    """Changed files, spread over the readers of files."""
    scenes: int = 5000
    """Hostile scenes for each build of the kernels."""
    crowd: int = 5_000_000
    """Tiny Gaussians that share one tile, for each build of the kernels."""
    lifts: int = 100
    """Lifts in one process."""
    views: int = 1000
    """Views of the synthetic scene."""
    queries: int = 2000
    """Queries in a row."""
    minutes: float = 10
    """Duration of the load of clients."""
    run: Path | None = None
    """The config.yml of a run for the clients; a small one is trained by default."""
    quick: bool = False
    """A twentieth of everything."""

    def measure(self) -> Results:
        """Runs the parts; first checks that this machine has what all of them need."""
        for part in self.parts:
            NEEDS.get(part, lambda: None)()
        rows: list[Row] = []
        goals: list[Goal] = []
        for part in self.parts:
            found, met = PARTS[part](self)
            rows += [{"part": part, "seed": self.seed, **row} for row in found]
            goals += met
        return rows, goals

    def scaled(self, count: int) -> int:
        """A count, less if it is to be quick."""
        return max(1, count // 20) if self.quick else count


def measure_kills(settings: RobustnessBenchmark) -> Results:
    """Kills every stage at random moments."""
    from tests.robustness.kills import kill_stage, spread
    from tests.robustness.stages import KILLED

    stages = _chosen(KILLED, settings.stages)
    with _workplace() as place:
        found = [
            kill_stage(place, stage, kills, settings.seed)
            for stage, kills in zip(stages, spread(settings.scaled(settings.kills), len(stages)), strict=True)
            if kills
        ]
    columns = ("kills", "midway", "data_losses", "wrong_resumes", "leftovers")
    return _series(f"Kills, seed {settings.seed}", ("stage",), columns, found)


def measure_faults(settings: RobustnessBenchmark) -> Results:
    """Lets operations of every stage fail, in every way."""
    from tests.robustness.faults import KINDS, fail_stage
    from tests.robustness.stages import KILLED, WRITING

    at_most = settings.scaled(settings.faults) if settings.faults else sys.maxsize
    with _workplace() as place:
        found = [
            fail_stage(place, stage, kind, at_most, settings.seed)
            for stage in _chosen([*KILLED, *WRITING], settings.stages)
            for kind in KINDS
        ]
    columns = ("operations", "faults", "told", "tolerated", "unclear", "data_losses", "wrong_results", "leftovers")
    return _series(f"Faults, seed {settings.seed}", ("stage", "kind"), columns, found)


def measure_fuzz(settings: RobustnessBenchmark) -> Results:
    """Gives changed files to every reader, in a process of its own, which ends if a reader hangs."""
    inputs = settings.scaled(settings.inputs)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        options = ("--inputs", str(inputs), "--seed", str(settings.seed), "--json", str(figures))
        done = subprocess.run([sys.executable, "-m", "tests.robustness.fuzzing", *options], cwd=ROOT)
        rows = json.loads(figures.read_text())["rows"] if figures.is_file() else []
    found = sum(row["num_findings"] for row in rows)
    goals = [Goal(f"fuzz, seed {settings.seed}: readers without figures", float(done.returncode != 0), "<=", 0)]
    return rows, [*goals, Goal(f"fuzz, seed {settings.seed}: findings", found, "<=", 0)]


def measure_sanitizers(settings: RobustnessBenchmark) -> Results:
    """Gives hostile scenes to every build of the kernels, compiled with sanitizers."""
    crowd = settings.scaled(settings.crowd)
    # The peak of the memory is that of all processes that a process has started.
    rows = in_own_process(_drive_builds, settings.seed, settings.scaled(settings.scenes), crowd)["rows"]
    columns = ("build", "scenes", "crowd", "findings", "seconds", "peak_gigabytes")
    print_table(columns, [tuple(_shown(row[name]) for name in columns) for row in rows], f"Seed {settings.seed}")
    for row in rows:
        CONSOLE.print(row["report"], markup=False)
    return rows, [Goal("sanitizers: findings", sum(row["findings"] for row in rows), "<=", 0)]


def _drive_builds(seed: int, scenes: int, crowd: int) -> Row:
    from genlangsplat_ns.rasterization import library
    from tests.rasterization.sanitizers import drive_builds

    builds = tuple(library.available_instruction_sets())
    return {"rows": [asdict(figures) for figures in drive_builds(builds, seed, scenes, crowd)]}


def measure_lifts(settings: RobustnessBenchmark) -> Results:
    """Lifts many times in one process."""
    return _load([robustness_load.lifts(settings.scaled(settings.lifts), settings.seed)])


def measure_views(settings: RobustnessBenchmark) -> Results:
    """Extracts and lifts many views."""
    return _load(robustness_load.views(settings.scaled(settings.views), settings.seed))


def measure_queries(settings: RobustnessBenchmark) -> Results:
    """Asks many texts."""
    return _load([robustness_load.queries(settings.scaled(settings.queries), settings.seed)])


def measure_clients(settings: RobustnessBenchmark) -> Results:
    """Lets clients of the viewer and of the page ask and vanish."""
    from support import clients_load

    minutes = settings.minutes / 20 if settings.quick else settings.minutes
    rows = clients_load.clients(settings.run, minutes, settings.seed)
    columns = (*("answers", "clicks", "drags", "clients", "vanished", "vanished_waiting"), *("longest_s", "stop_s"))
    print_table(("server", *columns), [(row["part"], *(_shown(row[name]) for name in columns)) for row in rows])
    for row in rows:
        for finding in row["findings"]:
            CONSOLE.print(f"{row['part']}: {finding}", markup=False)
        for error, count in row["foreign_errors"].items():
            CONSOLE.print(f"{row['part']}: {count} times from another package: {error}", markup=False)
    found, goals = _load([dict(row) for row in rows])
    return found, [*goals, *(goal for row in rows for goal in clients_load.goals(row))]


PARTS: dict[str, Callable[[RobustnessBenchmark], Results]] = {
    "kills": measure_kills,
    "faults": measure_faults,
    "fuzz": measure_fuzz,
    "sanitizers": measure_sanitizers,
    "lifts": measure_lifts,
    "views": measure_views,
    "queries": measure_queries,
    "clients": measure_clients,
}
"""The parts by name."""


def _require_fault_tools() -> None:
    from tests.robustness.file_faults import missing_tools

    missing = missing_tools()
    if missing:
        raise GenLangSplatError(f"Kills and faults cannot be measured here: {missing}. Give other --parts.")


def _require_sanitizers() -> None:
    from tests.rasterization.sanitizers import compiler_file

    for name in ("libasan.so", "libubsan.so"):
        compiler_file(name)


def _require_browser() -> None:
    from support.browsers import browser_path

    browser_path()


NEEDS: dict[str, Callable[[], None]] = {
    "kills": _require_fault_tools,
    "faults": _require_fault_tools,
    "sanitizers": _require_sanitizers,
    "clients": _require_browser,
}
"""What raises if a tool of a part is missing."""


def _workplace() -> Any:
    """The warm process and its folder, as a context."""
    from contextlib import contextmanager

    from tests.robustness.kills import Workplace
    from tests.robustness.warm_process import WarmProcess

    @contextmanager
    def opened() -> Any:
        with tempfile.TemporaryDirectory() as folder, WarmProcess(Path(folder)) as warm:
            yield Workplace(Path(folder), warm)

    return opened()


def _chosen(stages: list[Any], names: tuple[str, ...]) -> list[Any]:
    known = [stage.name for stage in stages]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise GenLangSplatError(f"Found the stages {', '.join(unknown)}; give some of {', '.join(known)}.")
    return [stage for stage in stages if not names or stage.name in names]


def _series(title: str, names: tuple[str, ...], columns: tuple[str, ...], found: list[Any]) -> Results:
    """Prints figures of a series with their sums and findings; nothing may be lost, wrong, left or unclear."""
    CONSOLE.print(title)
    sums = {name: sum(getattr(figures, name) for figures in found) for name in columns}
    lines = [tuple(str(getattr(figures, name)) for name in (*names, *columns)) for figures in found]
    print_table((*names, *columns), [*lines, ("all", *[""] * (len(names) - 1), *map(str, sums.values()))])
    for figures in found:
        for finding in figures.findings:
            CONSOLE.print(finding, markup=False)
    bad = ("data_losses", "wrong_resumes", "wrong_results", "leftovers", "unclear")
    goals = [Goal(f"{title}: {name.replace('_', ' ')}", sums[name], "<=", 0) for name in columns if name in bad]
    return [asdict(figures) for figures in found], goals


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _load(rows: list[Row]) -> Results:
    """Prints times and the slope of the memory, whose confidence interval is to include zero."""
    columns = ("repetitions", "p50_ms", "p95_ms", "p99_ms", "grown_kb", "slope_kb", "slope_low_kb", "slope_high_kb")
    print_table(("load", *columns), [(row["part"], *(f"{row[name]:.4g}" for name in columns)) for row in rows])
    goals = [
        Goal(f"{row['part']}: least growth per {row['per']} in kB (95 %)", row["slope_low_kb"], "<=", 0) for row in rows
    ]
    return [{"load": row.pop("part"), **row} for row in rows], goals


if __name__ == "__main__":
    RobustnessBenchmark.main()
