"""The costs of several runs side by side, from their reports; loads neither torch nor nerfstudio."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genlangsplat_ns.errors import GenLangSplatError


def read_costs(path: Path) -> dict[str, Any]:
    """Reads the costs in the report of a run; `path` is the folder of the run or a file in it.

    Raises:
        GenLangSplatError: There is no report, or it has no costs.
    """
    folder = path if path.is_dir() else path.parent
    file = path if path.suffix == ".json" else folder / "report.json"
    try:
        costs = json.loads(file.read_text(encoding="utf-8"))["costs"]
        compare_costs([costs])
    except FileNotFoundError as error:
        raise GenLangSplatError(
            f"{folder} has no report.json, which a training writes at its end. Give the folder of a finished run; runs "
            "of earlier versions have none."
        ) from error
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise GenLangSplatError(
            f"{file} is not the report of a run ({type(error).__name__}: {error}). Give the folder of a finished run."
        ) from error
    return dict(costs)


def title_of_run(path: Path) -> str:
    """The last folders of a run, which name scene, method and time."""
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    return "/".join(folder.parts[-3:])


def compare_costs(documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Returns rows for a table of several runs: a name, and one cell for each run."""
    stages = dict.fromkeys(name for costs in documents for name in costs["stages"])

    def row(name: str, *path: str, unit: str = "") -> tuple[str, list[str]]:
        return name, [_cell(costs, path, unit) for costs in documents]

    return [
        *(row(name, "stages", name, "wall_seconds", unit="s") for name in stages),
        row("all stages", "wall_seconds", unit="s"),
        row("processor", "processor_seconds", unit="s"),
        row("peak memory", "peak_memory_gb", unit="GB"),
        row("peak memory of the card", "peak_gpu_memory_gb", unit="GB"),
        row("share of masks and embeddings", "share_of_masks_and_embeddings", unit="%"),
        row("views", "views", unit="n"),
        row("of these stored before", "stored_features", "views", unit="n"),
        row("regions", "regions", unit="n"),
        row("regions per second", "regions_per_second"),
        row("Gaussians", "gaussians", unit="n"),
        *(row(f"{name} on disk", "bytes", name, unit="MB") for name in ("checkpoint", "memory", "features")),
    ]


def duration(seconds: float) -> str:
    """Formats seconds: 8.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cell(costs: Mapping[str, Any], path: Sequence[str], unit: str) -> str:
    value: Any = costs
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        return "-"
    formats = {"s": "{:.1f} s", "GB": "{:.2f} GB", "%": "{:.1%}", "n": "{:,}", "": "{:.1f}"}
    return f"{value / 1e6:.1f} MB" if unit == "MB" else formats[unit].format(value)
