"""The figures of the documents: one command draws all of them from stored results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def figures(benchmarks_importable: None) -> ModuleType:
    import figures

    return figures


def scene_rows() -> list[dict[str, Any]]:
    """Rows of two composed scenes with two widths, and their baseline."""
    rows = []
    for seed in (0, 1):
        for code in ("images", "projection"):
            for decoder in ("memory", "autoencoder"):
                rows += [
                    {"part": "scene", "seed": seed, "code": code, "decoder": decoder, "latent_dim": width, "miou": 0.5}
                    for width in (8, 16)
                ]
        rows.append(
            {"part": "scene", "seed": seed, "code": "none", "decoder": "autoencoder", "latent_dim": 512, "miou": 0.8}
        )
    return rows


def race_rows() -> list[dict[str, Any]]:
    """One scene with two lifts and one run of Adam."""
    stops = [{"step": step, "seconds": seconds, "cosine": 0.8, "miou": 0.7} for step, seconds in ((10, 1.0), (20, 2.0))]
    curve = {"solver": "Adam", "name": "rate 0.01", "settings": {"epsilon": 1e-15}, "stops": stops}
    lifts = [{"solver": name, "seconds": 0.5, "cosine": 0.9, "miou": 0.9} for name in ("plain", "robust (default)")]
    return [{"scene": "small", "gaussians": 12, "views": 2, "lifts": lifts, "curves": [curve]}]


def training_rows() -> list[dict[str, Any]]:
    """Steps of two numbers of Gaussians and of two sizes of images, in the order of a benchmark."""
    parts = {part: {"median_ms": 1.0} for part in ("forward", "backward", "loss", "optimizer", "strategy", "rest")}
    return [
        {
            "gaussians": gaussians,
            "height": height,
            "width": width,
            "step": {"median_ms": 6.0},
            "parts": parts,
            "peak_memory_gb": 1.0 + gaussians / 1e6,
        }
        for gaussians, height, width in ((10_000, 270, 480), (100_000, 270, 480), (100_000, 135, 240))
    ]


ROWS = {
    "composed.json": scene_rows(),
    "lifting_and_adam.json": race_rows(),
    "training.json": training_rows(),
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with small results of every benchmark that has a figure."""
    folder = tmp_path / "results"
    folder.mkdir()
    for name, rows in ROWS.items():
        (folder / name).write_text(json.dumps({"rows": rows}))
    return folder


def test_all_figures_are_drawn_from_results(figures: ModuleType, results: Path, tmp_path: Path) -> None:
    figures.main(results, tmp_path / "docs")
    drawn = sorted(path.name for path in (tmp_path / "docs").iterdir())
    assert drawn == sorted(figures.FIGURES)
    for name in drawn:
        pixels = np.asarray(Image.open(tmp_path / "docs" / name).convert("L"))
        assert (pixels < 128).sum() > 500


def test_equal_results_give_equal_files(figures: ModuleType, results: Path, tmp_path: Path) -> None:
    for folder in ("one", "other"):
        figures.main(results, tmp_path / folder)
    for name in figures.FIGURES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_other_results_give_another_figure(figures: ModuleType, results: Path, tmp_path: Path) -> None:
    figures.main(results, tmp_path / "one")
    rows = [{**row, "miou": row["miou"] / 2} for row in ROWS["composed.json"]]
    (results / "composed.json").write_text(json.dumps({"rows": rows}))
    figures.main(results, tmp_path / "other")
    changed = [
        name
        for name in figures.FIGURES
        if (tmp_path / "one" / name).read_bytes() != (tmp_path / "other" / name).read_bytes()
    ]
    assert changed == ["latent-width.png"]


def test_missing_results_name_the_file(figures: ModuleType, results: Path, tmp_path: Path) -> None:
    (results / "training.json").unlink()
    with pytest.raises(GenLangSplatError, match=r"no results in .*training\.json"):
        figures.main(results, tmp_path / "docs")


def test_a_folder_that_is_no_demo_is_named(figures: ModuleType, results: Path, tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"report\.json; expected the output folder of the demo"):
        figures.main(results, tmp_path / "docs", demo=tmp_path)


def test_every_figure_of_the_documents_has_stored_results(figures: ModuleType) -> None:
    shown = {
        Path(name).name
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"]
        for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert shown == {*figures.FIGURES, "gallery.png", "features.jpg", "view.webp", "share.webp"}
    for source, _ in figures.FIGURES.values():
        assert figures.read_rows(ROOT / "benchmarks" / "results" / source)
