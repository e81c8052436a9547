"""The costs of several runs side by side, from their reports; loads neither torch nor nerfstudio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.json_files import list_of, number_of, object_of, read_json, text_of

REPORT, SETTINGS = "report.json", "config.yml"
"""Files in the folder of a run."""


@dataclass(frozen=True)
class FoundRuns:
    """Runs in folders."""

    reports: tuple[Path, ...]
    """The reports of runs."""
    without_report: tuple[Path, ...] = ()
    """Folders of runs without a report, beside runs with one."""


def find_runs(path: Path) -> FoundRuns:
    """Finds the report of a run, or of all runs in a folder; `path` is a run, a file in one, or a folder with runs.

    Raises:
        GenLangSplatError: There is no such folder, or no run with a report in it.
    """
    if path.suffix == ".json":
        return FoundRuns((path,))
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise GenLangSplatError(f"{path} does not exist. Give the folder of a finished run, or one with several runs.")
    own = folder / REPORT
    if (folder / SETTINGS).is_file():
        if own.is_file():
            return FoundRuns((own,))
        raise GenLangSplatError(
            f"{folder} has no {REPORT}, which a training writes at its end. Resume the run with --load-dir "
            f"{folder / 'nerfstudio_models'} if it was stopped; finished runs of earlier versions have no report."
        )
    runs = sorted(settings.parent for settings in folder.rglob(SETTINGS))
    reports = tuple(run / REPORT for run in runs if (run / REPORT).is_file())
    if reports:
        return FoundRuns(reports, tuple(run for run in runs if not (run / REPORT).is_file()))
    if own.is_file():
        return FoundRuns((own,))
    found = f"{len(runs)} runs without a {REPORT}, which a training writes at its end" if runs else "no run"
    raise GenLangSplatError(f"Found {found} in {folder}. Give the folder of a finished run, or one with several runs.")


def read_costs(file: Path) -> dict[str, Any]:
    """Reads the costs in the report of a run.

    Raises:
        GenLangSplatError: The file does not exist, or is not the report of a run.
    """
    try:
        return _checked(object_of(read_json(file), "the file").get("costs"))
    except FileNotFoundError as error:
        raise GenLangSplatError(f"{file} does not exist. Give the folder of a finished run.") from error
    except (OSError, ValueError) as error:
        raise GenLangSplatError(
            f"{file} is not the report of a run ({type(error).__name__}: {error}). Give the folder of a finished run."
        ) from error


def _checked(value: Any) -> dict[str, Any]:
    """Returns the costs of a report after checking the types of what is shown; raises ValueError."""
    costs = object_of(value, "costs")
    for stage, cost in object_of(costs.get("stages"), "stages").items():
        object_of(cost, stage)
    for name, path, _ in rows_of([costs]):
        shown = _value(costs, path)
        if shown is not None:
            number_of(shown, name)
    for note in list_of(costs.get("not_counted"), "not_counted"):
        text_of(note, "a note")
    text_of(costs.get("machine", ""), "machine")
    return costs


def title_of_run(report: Path) -> str:
    """The last folders of a run, which name scene, method and time."""
    return "/".join(report.resolve().parent.parts[-3:])


def compare_costs(documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Returns rows for a table of several runs: a name, and one cell for each run."""
    return [(name, [_cell(costs, path, unit) for costs in documents]) for name, path, unit in rows_of(documents)]


def rows_of(documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[str, ...], str]]:
    """Returns the rows of that table: a name, where the costs have the value, and its unit."""
    stages = dict.fromkeys(name for costs in documents for name in costs["stages"])
    return [
        *((name, ("stages", name, "wall_seconds"), "s") for name in stages),
        ("all stages", ("wall_seconds",), "s"),
        ("processor", ("processor_seconds",), "s"),
        ("peak memory", ("peak_memory_gb",), "GB"),
        ("peak memory of the card", ("peak_gpu_memory_gb",), "GB"),
        ("share of masks and embeddings", ("share_of_masks_and_embeddings",), "%"),
        ("views", ("views",), "n"),
        ("of these stored before", ("stored_features", "views"), "n"),
        ("regions", ("regions",), "n"),
        ("regions per second", ("regions_per_second",), ""),
        ("Gaussians", ("gaussians",), "n"),
        *((f"{name} on disk", ("bytes", name), "MB") for name in ("checkpoint", "memory", "features")),
    ]


def notes_on_costs(titles: Sequence[str], documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns sentences about what a table of several runs does not show: other machines, and what is not counted."""
    machines: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    for title, costs in zip(titles, documents, strict=True):
        machines.setdefault(costs.get("machine", "an unknown machine"), []).append(title)
        for note in costs["not_counted"]:
            notes.setdefault(note, []).append(title)
    sentences = [f"Not counted in {_listed(runs, titles)}: {note}." for note, runs in notes.items()]
    if len(machines) > 1:
        sentences.append("The runs are from different machines, so their times and memory do not compare:")
        sentences += [f"{_listed(runs, titles)}: {machine}." for machine, runs in machines.items()]
    return sentences


def duration(seconds: float) -> str:
    """Formats seconds: 8.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _listed(chosen: Sequence[str], titles: Sequence[str]) -> str:
    """Names runs, or says that it is all of several."""
    return "all runs" if len(chosen) == len(titles) > 1 else ", ".join(chosen)


def _value(costs: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Returns a value in nested objects; None if it is not there."""
    value: Any = costs
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _cell(costs: Mapping[str, Any], path: Sequence[str], unit: str) -> str:
    value = _value(costs, path)
    if value is None:
        return "-"
    formats = {"s": "{:.1f} s", "GB": "{:.2f} GB", "%": "{:.1%}", "n": "{:,}", "": "{:.1f}"}
    return f"{value / 1e6:.1f} MB" if unit == "MB" else formats[unit].format(value)
