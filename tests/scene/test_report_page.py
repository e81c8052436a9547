"""The page of a run says what went wrong and what to change, and what each number is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genlangsplat_ns.lifting.health import BLEEDING, COLLAPSE, MEANINGS, HealthLine
from genlangsplat_ns.scene.report_page import write_run_page

STAGE = {"wall_seconds": 8.0, "processor_seconds": 9.0, "peak_memory_gb": 1.0, "peak_gpu_memory_gb": 0.0}
COSTS: dict[str, Any] = {
    **STAGE,
    "stages": {"RGB <phase>": STAGE},
    "parts": [{"first_step": 0, "end_step": 10, **STAGE}, {"first_step": 10, "end_step": 20, **STAGE}],
    "stored_features": {"views": 3, "masks": STAGE, "embeddings": STAGE},
    "views": 3,
    "regions": 90,
    "regions_per_second": None,
    "share_of_masks_and_embeddings": 0.5,
    "mask_generator": "watershed",
    "encoder": "conse",
    "device": "cpu",
    "machine": "Linux, 2 processor cores",
    "gaussians": 1_000,
    "bytes": {"checkpoint": 2_000_000},
    "not_counted": ["the viewer"],
}
LINE = HealthLine(BLEEDING, "share of wrong pixels", 0.5, "at most", 0.38, "Take other masks.")


def page_of(folder: Path, *lines: HealthLine, curves: Any = (), costs: dict[str, Any] | None = None) -> str:
    document = {
        "costs": costs or COSTS,
        "health": {line.name: line.to_json() for line in lines},
        "metrics": {"split": "eval", "views": ["1.jpg"], "psnr": 20.0, "curves": dict(curves)},
    }
    write_run_page(folder / "report.html", "a <scene>", document, "<section>pictures</section>")
    return (folder / "report.html").read_text()


def test_a_fault_is_said_first_and_followed_by_what_to_change(tmp_path: Path) -> None:
    page = page_of(tmp_path, LINE, replace(LINE, name=COLLAPSE, value=0.1))
    assert f"its language has a fault: {BLEEDING}." in page
    places = [
        page.index(text) for text in ("class=missed>fault", "What to change:</b> Take other masks", "good>healthy")
    ]
    assert places == sorted(places)
    assert "&lt;scene&gt;" in page and "RGB &lt;phase&gt;" in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"value": 0.1}, "None of the known faults"),
        ({"value": 0.1, "note": "A little low."}, "A little low."),
        ({"hidden_by": "the latents collapsed"}, "Not judged, because the latents collapsed."),
        ({"value": None}, "could not be measured"),
    ],
)
def test_other_verdicts_are_said_too(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    page = page_of(tmp_path, replace(LINE, **changes))
    assert said in page and "What to change" not in page


def test_every_further_number_has_its_meaning(tmp_path: Path) -> None:
    page = page_of(tmp_path, replace(LINE, details=dict.fromkeys(MEANINGS, 0.25)))
    assert page.count("<td>0.250") == len(MEANINGS)
    assert all(meaning.split(";")[0] in page for meaning in MEANINGS.values())


def test_costs_of_stored_features_and_of_a_resumed_run_are_listed(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "masks of 3 views, stored before" in page and "Linux, 2 processor cores" in page
    assert "steps 0 to 9 in 8.0 s; steps 10 to 19 in 8.0 s" in page
    on_card = page_of(tmp_path, costs={**COSTS, "peak_gpu_memory_gb": 7.5})
    assert "peak memory of the card" in on_card and "7.50 GB" in on_card
    assert "peak memory of the card" not in page and "<th>card" not in page


def test_each_phase_has_its_curve(tmp_path: Path) -> None:
    page = page_of(tmp_path, curves={"RGB phase": [[0, 1.0], [9, 0.5]], "language steps": [[10, 2.0], [19, 1.0]]})
    assert page.count("<svg") == 2
    assert "RGB phase: the loss from step 0 to 9" in page and "language steps: the loss from step 10 to 19" in page
    assert "<svg" not in page_of(tmp_path, curves={"RGB phase": [[0, 1.0]]})
