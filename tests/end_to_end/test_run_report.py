"""Every training ends with a report of its costs, health and metrics."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from genlangsplat_ns.commands.costs import Costs
from genlangsplat_ns.scene import run_report
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.utils import stopwatch
from genlangsplat_ns.utils.stopwatch import STARTUP
from tests.end_to_end.conftest import RGB_STEPS, copy_scene, make_config, make_trainer, train
from tests.end_to_end.quick_extraction import SETTINGS, rewrite
from tests.end_to_end.test_adam import adam_config

REPORT_LOGGER = "genlangsplat_ns.scene.run_report"


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def folder_of(scene: LanguageScene) -> Path:
    assert scene.stored is not None
    return scene.stored.config_path.parent


class Lines(logging.Handler):
    """Keeps what is logged, by logger."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.name, record.getMessage()))


@pytest.fixture
def log() -> Iterator[list[tuple[str, str]]]:
    """The log of the library, which a training shows on its own console instead of handing it on."""
    lines, logger = Lines(), logging.getLogger("genlangsplat_ns")
    logger.addHandler(lines)
    yield lines.kept
    logger.removeHandler(lines)


class Sections(HTMLParser):
    """The headings and pictures of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.pictures: list[str] = []
        self._in_heading = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in_heading = tag == "h2"
        if tag == "img":
            self.pictures.append(dict(attributes)["alt"] or "")

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.headings.append(data)
            self._in_heading = False


def test_the_stages_add_up_to_the_time_of_the_training(
    tiny_scene: Path, tmp_path: Path, log: list[tuple[str, str]]
) -> None:
    config = make_config(tiny_scene, tmp_path, rgb_steps=RGB_STEPS)
    config.steps_per_eval_image = 20
    start = time.perf_counter()
    trainer = train(config)
    seconds = time.perf_counter() - start
    report = report_of(trainer.base_dir)
    costs = report["costs"]
    named = {name: cost["wall_seconds"] for name, cost in costs["stages"].items() if name != "other"}
    assert {"reading and undistorting", "RGB phase", "lifting", "memory", "evaluation", "report"} <= named.keys()
    assert all(value > 0 for value in named.values())
    assert sum(named.values()) == pytest.approx(seconds, rel=0.05)
    assert costs["wall_seconds"] == pytest.approx(seconds, rel=0.05)
    assert costs["processor_seconds"] > 0.05 * seconds and 0.1 < costs["peak_memory_gb"] < 100
    assert costs["resumed"] is None and len(costs["parts"]) == 1
    assert costs["bytes"]["checkpoint"] > 10_000 and costs["bytes"]["memory"] > 1_000
    lines = [line for name, line in log if name == REPORT_LOGGER]
    assert len(lines) == 3 and [line.split()[0] for line in lines] == ["Costs:", "Health:", "Report:"]


def test_features_that_were_stored_before_are_counted_apart(tiny_run: LanguageScene) -> None:
    costs = report_of(folder_of(tiny_run))["costs"]
    stored = costs["stored_features"]
    assert stored["views"] == costs["views"] == 10 and stored["views_with_unknown_costs"] == 0
    assert stored["embeddings"]["wall_seconds"] > 0 and costs["regions"] > 20 and costs["regions_per_second"] > 0
    assert "masks" not in costs["stages"]
    before = stored["masks"]["wall_seconds"] + stored["embeddings"]["wall_seconds"]
    share = before / (before + costs["wall_seconds"])
    assert costs["share_of_masks_and_embeddings"] == pytest.approx(share, abs=0.001)


def test_the_page_shows_costs_health_training_and_three_views(tiny_run: LanguageScene) -> None:
    page = (folder_of(tiny_run) / "report.html").read_text()
    sections = Sections(page)
    assert {"Costs", "Health", "Training", "Views", "How it was measured"} <= set(sections.headings)
    shown = [name.split(": ")[1] for name in sections.pictures]
    assert len(shown) % 4 == 0 and shown[:4] == ["photograph", "rendering", "latents", "regions"]
    assert len(shown) == 4 * min(3, len(tiny_run.views("eval")))
    assert "src=http" not in page and 'src="http' not in page


def test_metrics_are_those_of_the_held_out_views(tiny_run: LanguageScene) -> None:
    metrics = report_of(folder_of(tiny_run))["metrics"]
    assert metrics["split"] == "eval"
    assert metrics["views"] == [view.name for view in tiny_run.views("eval")]
    assert metrics["psnr"] > 15 and 0 < metrics["ssim"] < 1 and 0.5 < metrics["lang_cosine"] <= 1
    ((name, curve),) = metrics["curves"].items()
    losses = [loss for _, loss in curve]
    assert name == "RGB phase" and losses[0] > losses[-1] > 0, "The last step only lifts the latents."


@dataclass
class NsTrain:
    """What a process that looks like ns-train does outside of its training."""

    startup: float = 300.0
    frozen: int = 0

    def freeze(self) -> None:
        self.frozen += 1


@pytest.fixture
def as_ns_train(monkeypatch: pytest.MonkeyPatch) -> NsTrain:
    """Makes this process look like ns-train, and its start take some time."""
    process = NsTrain()
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ns-train", "gen-langsplat-lite"])
    monkeypatch.setattr(stopwatch, "seconds_since_start", lambda: process.startup)
    monkeypatch.setattr(gc, "freeze", process.freeze)
    return process


def test_a_training_within_another_program_has_no_startup(tiny_run: LanguageScene) -> None:
    costs = report_of(folder_of(tiny_run))["costs"]
    assert STARTUP not in costs["stages"]
    assert any("before it set up the training" in note for note in costs["not_counted"])


def test_a_resumed_run_counts_the_part_before_it_once(tiny_scene: Path, tmp_path: Path, as_ns_train: NsTrain) -> None:
    def stop_after(trainer: Any, last: int) -> None:
        def act(step: int) -> None:
            if step == last:
                trainer.save_checkpoint(step)
                trainer.stop_training = True

        trainer.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], act))

    config = make_config(tiny_scene, tmp_path / "first")
    config.save_only_latest_checkpoint = False
    first = make_trainer(config)
    stop_after(first, 19)
    first.train()
    before = json.loads((first.base_dir / "costs.json").read_text())["checkpoints"]["19"]
    config = make_config(tiny_scene, tmp_path / "second")
    config.load_dir = first.checkpoint_dir
    config.load_step = 19
    costs = report_of(train(config).base_dir)["costs"]
    assert costs["resumed"] == {"from_step": 19, "earlier_costs_known": True}
    assert [(part["first_step"], part["end_step"]) for part in costs["parts"]] == [(0, 20), (20, RGB_STEPS + 1)]
    rgb = [part["stages"]["RGB phase"]["wall_seconds"] for part in before]
    assert len(rgb) == 1 and costs["stages"]["RGB phase"]["wall_seconds"] > rgb[0]
    assert costs["wall_seconds"] == pytest.approx(sum(part["wall_seconds"] for part in costs["parts"]), abs=0.01)
    # Every process starts once.
    assert all(part["wall_seconds"] > as_ns_train.startup for part in costs["parts"])
    assert (
        costs["stages"][STARTUP]["wall_seconds"] == 2 * as_ns_train.startup and next(iter(costs["stages"])) == STARTUP
    )
    assert as_ns_train.frozen == 2, "no process searches its objects before it ends"
    assert not any("before it set up the training" in note for note in costs["not_counted"])


def test_a_run_extracts_and_counts_its_masks_and_embeddings(
    tiny_scene: Path, tmp_path: Path, quick_encoder: None
) -> None:
    config = make_config(copy_scene(tiny_scene, tmp_path), tmp_path / "outputs")
    for name, value in vars(SETTINGS).items():
        setattr(config.pipeline.datamanager, name, value)
    costs = report_of(train(config).base_dir)["costs"]
    spent = costs["stages"]["masks"]["wall_seconds"] + costs["stages"]["embeddings"]["wall_seconds"]
    assert spent > 0 and costs["stored_features"]["views"] == 0
    assert costs["share_of_masks_and_embeddings"] == pytest.approx(spent / costs["wall_seconds"], abs=0.001)
    assert costs["regions_per_second"] >= costs["regions"] / spent * 0.99


def test_an_optimized_run_books_its_language_steps(tiny_scene: Path, tmp_path: Path) -> None:
    report = report_of(train(adam_config(tiny_scene, tmp_path)).base_dir)
    stages = report["costs"]["stages"]
    assert stages["language steps"]["wall_seconds"] > stages["memory"]["wall_seconds"] > 0
    assert "lifting" not in stages and len(report["metrics"]["curves"]["language steps"]) == 60


def test_a_run_without_held_out_views_is_measured_on_its_training_views(tiny_scene: Path, tmp_path: Path) -> None:
    scene = copy_scene(tiny_scene, tmp_path)
    shutil.copytree(tiny_scene / "language_features", scene / "language_features")
    frames = json.loads((scene / "transforms.json").read_text())["frames"][:3]
    rewrite(scene, frames=frames, train_filenames=None, val_filenames=None, test_filenames=None)
    report = report_of(train(make_config(scene, tmp_path / "outputs")).base_dir)
    assert report["metrics"]["split"] == "train" and len(report["metrics"]["views"]) == 3
    assert report["health"]["latent collapse"]["value"] > 0


def test_a_run_on_other_gaussians_says_that_their_training_is_not_counted(
    tiny_scene: Path, tiny_run: LanguageScene, tmp_path: Path
) -> None:
    config = make_config(tiny_scene, tmp_path)
    config.pipeline.init_from = folder_of(tiny_run) / "config.yml"
    costs = report_of(train(config).base_dir)["costs"]
    assert any(str(config.pipeline.init_from) in note for note in costs["not_counted"])
    assert costs["stages"]["lifting"]["wall_seconds"] > 0


def test_an_error_in_the_report_is_a_warning_after_the_checkpoint(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[tuple[str, str]]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the card is full")

    monkeypatch.setattr(run_report, "write_run_page", fail)
    trainer = train(make_config(tiny_scene, tmp_path))
    (warning,) = [line for _, line in log if "could not be written" in line]
    assert "the card is full" in warning and "complete and saved" in warning
    assert list(trainer.checkpoint_dir.glob("step-*.ckpt"))


def test_costs_of_several_runs_stand_side_by_side(
    tiny_run: LanguageScene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = folder_of(tiny_run)
    Costs(runs=(folder, folder / "report.json"))()
    printed = capsys.readouterr().out
    costs = report_of(folder)["costs"]
    (row,) = [line for line in printed.splitlines() if "RGB phase" in line]
    assert row.count(f"{costs['stages']['RGB phase']['wall_seconds']:.1f} s") == 2
    assert "Not counted in all runs" in printed and "different machines" not in printed
