"""Checks on one card what can only run there: `make gpu-check`, or `python -m gpu.check` in benchmarks/.

Every part runs in its own process. A part that fails, takes too long or cannot run is reported, and the others go on.
The figures are written after each part. This module uses only Python itself, because the bundle brings the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "gpu-site"
MINUTES = 8.0


@dataclass(frozen=True)
class Part:
    """A part of the check."""

    name: str
    seconds: float
    """It is stopped after this time."""
    needs: tuple[str, ...] = ()
    """Parts without whose results it is skipped."""


PARTS = (
    Part("environment", 60),
    Part("build", 240),
    Part("tests", 120),
    Part("gallery", 150),
    Part("fox", 180),
    Part("agreement", 90, ("gallery",)),
    Part("steps", 90, ("gallery",)),
    Part("language", 90, ("gallery",)),
)


@dataclass
class Outcome:
    """How a part ended."""

    part: str
    state: str
    """ok, failed or skipped."""
    seconds: float = 0.0
    note: str = ""
    """Why it was skipped, or the last line of its log."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Name, value and unit of every figure."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts; returns 1 if one failed."""
    options = read_options(arguments)
    folder = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = prepare_environment(options.bundle)
    deadline = time.monotonic() + 60 * options.minutes
    outcomes: list[Outcome] = []
    for part in PARTS:
        if options.only and part.name not in options.only:
            continue
        outcome = run_part(part, options, folder, environment, deadline, outcomes)
        outcomes.append(outcome)
        say(describe(outcome))
        write_results(options.json or folder / "gpu-check.json", options, outcomes)
    say("\n" + table(outcomes))
    skipped = [f"{outcome.part} ({outcome.note})" for outcome in outcomes if outcome.state == "skipped"]
    say(f"Skipped: {'; '.join(skipped) or 'nothing'}. Logs and runs: {folder}")
    return int(any(outcome.state == "failed" for outcome in outcomes))


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(prog="gpu.check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to rehearse what needs no card")
    parser.add_argument("--quick", action="store_true", help="tiny scenes and few steps; the figures mean nothing")
    parser.add_argument("--bundle", type=Path, help="folder of `make gpu-bundle`, installed first")
    parser.add_argument("--fox", type=Path, default=Path("fox"), help="folder of the fox scene")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu-check", help="folder of runs and logs")
    parser.add_argument("--json", type=Path, help="file of the figures; gpu-check.json in the output by default")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time for all parts")
    parser.add_argument("--only", nargs="*", choices=[part.name for part in PARTS], help="parts to run")
    options = parser.parse_args(arguments)
    if options.bundle is not None and (options.bundle / "fox").is_dir():
        options.fox = options.bundle / "fox"
    return options


def prepare_environment(bundle: Path | None) -> dict[str, str]:
    """Installs the wheels of the bundle into a folder of their own, and returns the variables of the parts."""
    paths = [ROOT / "benchmarks", ROOT]
    environment = dict(os.environ)
    if bundle is not None:
        wheels = sorted(map(str, (bundle / "wheels").glob("*.whl")))
        install = ["install", "--quiet", "--no-index", "--no-deps", "--upgrade", "--target", str(SITE)]
        subprocess.run([sys.executable, "-m", "pip", *install, *wheels], check=True)
        # Before what is installed: numpy 2 has to be replaced.
        paths.insert(0, SITE)
        environment["GPU_CHECK_SENTENCES"] = str(bundle.resolve() / "sentences.safetensors")
    inherited = os.environ.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *([inherited] if inherited else [])])
    return environment


def run_part(
    part: Part,
    options: argparse.Namespace,
    folder: Path,
    environment: dict[str, str],
    deadline: float,
    before: list[Outcome],
) -> Outcome:
    """Runs one part in its own process."""
    done = {outcome.part for outcome in before if outcome.state == "ok"}
    missing = [name for name in part.needs if name not in done and not (options.only and part.name in options.only)]
    if missing:
        return Outcome(part.name, "skipped", note=f"needs {', '.join(missing)}")
    limit = min(part.seconds if options.device != "cpu" else 10 * part.seconds, deadline - time.monotonic())
    if limit <= 0:
        return Outcome(part.name, "skipped", note="no time is left")
    result, log = folder / f"{part.name}.json", folder / f"{part.name}.log"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "gpu.part", part.name, str(folder), options.device]
    command += [str(options.fox), *(["--quick"] if options.quick else [])]
    start = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            # It may have started others.
            os.killpg(process.pid, 9)
            process.wait()
            code = None
    outcome = Outcome(part.name, "ok" if code == 0 else "failed", round(time.monotonic() - start, 1))
    document = json.loads(result.read_text()) if result.is_file() else {}
    outcome.rows = document.get("rows", [])
    if code is None:
        outcome.note = f"stopped after {limit:.0f} s"
    elif code != 0:
        outcome.note = last_line(log)
    elif "skipped" in document:
        outcome.state, outcome.note = "skipped", document["skipped"]
    return outcome


def last_line(log: Path) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def describe(outcome: Outcome) -> str:
    """One line about a part."""
    note = f": {outcome.note}" if outcome.note else ""
    return f"{outcome.part}: {outcome.state} in {outcome.seconds:.1f} s{note}"


def table(outcomes: list[Outcome]) -> str:
    """All figures as a Markdown table."""
    lines = ["| part | figure | value | unit |", "|---|---|---|---|"]
    for outcome in outcomes:
        rows = outcome.rows or [{"name": outcome.state, "value": outcome.note or "-", "unit": ""}]
        for row in rows:
            value = f"{row['value']:.4g}" if isinstance(row["value"], float) else row["value"]
            lines.append(f"| {outcome.part} | {row['name']} | {value} | {row['unit']} |")
    return "\n".join(lines)


def write_results(path: Path, options: argparse.Namespace, outcomes: list[Outcome]) -> None:
    """Writes the figures, in the format of all benchmarks; replaces the file at once."""
    rows = [{"part": outcome.part, **row} for outcome in outcomes for row in outcome.rows]
    parts = [{key: value for key, value in vars(outcome).items() if key != "rows"} for outcome in outcomes]
    machine = {"cores": os.cpu_count(), "python": sys.version.split()[0], "device": options.device}
    document = {"machine": machine, "quick": options.quick, "parts": parts, "rows": rows, "bars": []}
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.replace(path)


def say(text: str) -> None:
    """Prints at once, so that a log shows how far the check is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
