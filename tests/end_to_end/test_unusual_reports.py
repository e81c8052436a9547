"""The report also comes out of runs with little to report."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.commands.compress import Compress
from genlangsplat_ns.datamanager import Split
from genlangsplat_ns.features.view_file import ViewFeatures
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.pipeline import MIN_RGB_STEPS
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.run_report import report_run
from genlangsplat_ns.scene_io.run_costs import RunCosts, RunPart
from genlangsplat_ns.utils.stopwatch import StageCost
from tests.end_to_end.conftest import copy_scene, make_config, make_trainer, train
from tests.end_to_end.test_run_report import folder_of, report_of

PART = RunPart(0, 5, {"RGB phase": StageCost(1.0, 2.0, 0.5)})
FAULTS = ["semantic bleeding", "latent collapse", "geometry-semantic misalignment", "unfaithful code"]


def scene_with_features(tiny_scene: Path, folder: Path) -> Path:
    """A copy of the tiny scene with its features, which tests may modify."""
    scene = copy_scene(tiny_scene, folder)
    shutil.copytree(tiny_scene / "language_features", scene / "language_features")
    return scene


def assert_page(folder: Path, *expected: str) -> None:
    page = re.sub(r'src="data:[^"]*"', "", (folder / "report.html").read_text())
    assert [text for text in (*expected, "Costs", "How it was measured") if text not in page] == []
    assert not re.search(r"\b(nan|inf)\b", page)


@pytest.mark.parametrize("encoding", ["fp16", "int8"])
def test_a_compressed_run_is_as_healthy_as_before(tiny_run: LanguageScene, tmp_path: Path, encoding: str) -> None:
    copy = Path(shutil.copytree(folder_of(tiny_run), tmp_path / "outputs" / "run"))
    Compress(load_config=copy / "config.yml", to=encoding, text=("a cat",))()  # type: ignore[arg-type]
    compressed = open_run(copy.with_name(f"run-{encoding}") / "config.yml")
    health = report_run(compressed, tmp_path, RunCosts(), lambda: PART)["health"]
    before = report_of(folder_of(tiny_run))["health"]
    for fault in FAULTS:
        assert health[fault]["value"] == pytest.approx(before[fault]["value"], abs=0.02)
    assert_page(tmp_path, *FAULTS)


def test_the_gaussians_of_a_compressed_run_get_their_language_and_a_report(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder_of(tiny_run), tmp_path / "outputs" / "run"))
    Compress(load_config=copy / "config.yml", to="int8", text=("a cat",))()
    config = make_config(tiny_scene, tmp_path)
    config.pipeline.init_from = copy.with_name("run-int8") / "config.yml"
    report = report_of(train(config).base_dir)
    assert "RGB phase" not in report["costs"]["stages"] and report["metrics"]["curves"] == {}
    assert list(report["health"]) == FAULTS


def test_a_run_that_learned_nothing_still_reports(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = train(make_config(tiny_scene, tmp_path, rgb_steps=MIN_RGB_STEPS))
    report = report_of(trainer.base_dir)
    assert len(report["metrics"]["curves"]["RGB phase"]) == MIN_RGB_STEPS
    assert list(report["health"]) == FAULTS and report["metrics"]["psnr"] > 0
    assert_page(trainer.base_dir, *FAULTS)


def test_a_level_without_any_region_is_left_out(tiny_scene: Path, tmp_path: Path) -> None:
    data = scene_with_features(tiny_scene, tmp_path)
    trainer = make_trainer(make_config(data, tmp_path / "outputs"))
    store = trainer.pipeline.datamanager.store
    for key in list(store.keys()):
        features = store.load(key)
        regions = features.regions.clone()
        regions[LEVELS.index("subpart")] = -1
        store.save(key, replace(features, regions=regions))
    trainer.train()
    report = report_of(trainer.base_dir)
    assert all(report["health"][fault]["value"] is not None for fault in FAULTS)
    assert_page(trainer.base_dir, *FAULTS)


def test_views_without_regions_are_said_not_to_be_measured(
    tiny_run: LanguageScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tiny_run.datamanager.language_features

    def blank(split: Split, index: int) -> ViewFeatures:
        features = stored(split, index)
        return replace(features, regions=torch.full_like(features.regions, -1), embeddings=features.embeddings[:0])

    monkeypatch.setattr(tiny_run.datamanager, "language_features", blank)
    report = report_run(tiny_run, tmp_path, RunCosts(), lambda: PART)
    assert [line["value"] for line in report["health"].values()] == [None] * 4
    assert "lang_cosine" not in report["metrics"]
    assert_page(tmp_path, "could not be measured", "not measured")


def test_a_run_that_stopped_before_its_language_phase_has_costs_only(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = make_trainer(make_config(tiny_scene, tmp_path))
    scene = LanguageScene(trainer.pipeline.model, trainer.pipeline.datamanager)
    report = report_run(scene, tmp_path, RunCosts(), lambda: PART)
    assert report["health"] == {} and report["costs"]["wall_seconds"] == 1.0
    assert_page(tmp_path)


def test_a_loss_that_is_not_finite_is_null_and_said(tiny_run: LanguageScene, tmp_path: Path) -> None:
    curves = {"RGB phase": [(0, 0.5), (1, math.nan), (2, 0.25)], "language steps": [(3, math.inf), (4, math.nan)]}
    report_run(tiny_run, tmp_path, RunCosts(), lambda: PART, curves)
    stored = json.loads((tmp_path / "report.json").read_text())["metrics"]["curves"]
    assert stored == {"RGB phase": [[0, 0.5], [1, None], [2, 0.25]], "language steps": [[3, None], [4, None]]}
    assert_page(tmp_path, "not a finite number at 1 of 3 points", "language steps: the loss is not a finite number")
