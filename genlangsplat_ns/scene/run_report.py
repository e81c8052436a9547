"""The report of a finished run: costs, health and metrics as `report.json`, and a page with pictures, `report.html`."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from genlangsplat_ns.lifting.health import describe_health
from genlangsplat_ns.scene.cost_report import cost_document, describe_costs
from genlangsplat_ns.scene.health_report import scene_health
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.measured_views import MeasuredView, mean_metrics, views_to_measure
from genlangsplat_ns.scene.report_page import show_views, write_run_page
from genlangsplat_ns.scene_io.run_costs import RunCosts, RunPart
from genlangsplat_ns.utils.files import atomic_path

LOGGER = logging.getLogger(__name__)

JSON_FILE, PAGE_FILE = "report.json", "report.html"

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""For every phase steps, and the mean loss of the steps up to them."""


@torch.no_grad()
def report_run(
    scene: LanguageScene,
    folder: Path,
    costs: RunCosts,
    part: Callable[[], RunPart],
    curves: Curves | None = None,
    geometry: Path | None = None,
) -> dict[str, Any]:
    """Writes `report.json`, whose content it returns, and `report.html` into a folder of a run, and logs three lines.

    `part` returns the costs of this process until now; it is called when only writing is left. `geometry` is the run or
    file from whose Gaussians the run started.
    """
    scene.model.eval()
    in_language_phase = scene.model.in_language_phase
    views = [MeasuredView.render(scene, view) for view in views_to_measure(scene)] if in_language_phase else []
    metrics = {
        **mean_metrics(views),
        "curves": {name: list(map(list, curve)) for name, curve in (curves or {}).items()},
    }
    health = scene_health(scene, views) if in_language_phase else []
    pictures = show_views(scene, views)
    current = part()
    costs.save(folder, current)
    document: dict[str, Any] = {
        "costs": cost_document(scene, folder, costs, current, geometry),
        "health": {line.name: line.to_json() for line in health},
        "metrics": metrics,
    }
    document = _without_nan(document)
    with atomic_path(folder / JSON_FILE) as path:
        path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    write_run_page(folder / PAGE_FILE, scene.name, document, pictures)
    LOGGER.info("%s", describe_costs(document["costs"]))
    LOGGER.log(logging.WARNING if any(line.faulty for line in health) else logging.INFO, "%s", describe_health(health))
    LOGGER.info("Report: %s and %s.", folder / PAGE_FILE, JSON_FILE)
    return document


def _without_nan(value: Any) -> Any:
    """Replaces numbers that are not finite by None, because JSON has none: for example the loss of a diverged run."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, (list, tuple)) else value
