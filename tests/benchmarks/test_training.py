"""The training benchmark measures the method's own steps and reports missed goals."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def rgb_step(benchmarks_importable: None) -> ModuleType:
    from support import rgb_step

    return rgb_step


@pytest.fixture
def training(benchmarks_importable: None) -> ModuleType:
    import training

    return training


def make_row(gaussians: int, step: float, parts: dict[str, float], peak: float) -> dict[str, Any]:
    """A row of synthetic figures."""

    def timing(value: float) -> dict[str, float]:
        return {"median_ms": value}

    return {
        "gaussians": gaussians,
        "step": timing(step),
        "parts": {part: timing(value) for part, value in parts.items()},
        "peak_memory_gb": peak,
    }


def test_every_part_of_a_step_is_timed_while_the_scene_grows(rgb_step: ModuleType) -> None:
    row = rgb_step.measure_steps(500, 32, 48)
    assert set(row["parts"]) == set(rgb_step.PARTS)
    assert all(timing["median_ms"] > 0 for timing in row["parts"].values())
    assert row["gaussians_after_refinements"] > 500


def test_gaussians_cover_the_same_area_for_any_number(rgb_step: ModuleType) -> None:
    areas = []
    for count in (1_000, 10_000):
        gaussians = rgb_step.make_gaussians(count)
        deviations = gaussians["scales"].exp().mean(dim=-1) / -gaussians["means"][:, 2] * rgb_step.USUAL_SIZE[1]
        areas.append(float((deviations.square() + rgb_step.BLUR).sum()))
    assert areas[1] == pytest.approx(areas[0], rel=0.05)


def test_steps_update_every_trained_parameter(rgb_step: ModuleType) -> None:
    trainer = rgb_step.TimedTrainer(300, 32, 48)
    before = {name: values.detach().clone() for name, values in trainer.model.gauss_params.items()}
    trainer.run_step(rgb_step.FIRST_STEP)
    moved = {name for name, values in trainer.model.gauss_params.items() if not values.equal(before[name])}
    assert moved == {"means", "scales", "quats", "features_dc", "opacities"}


def test_missed_goals_are_reported(training: ModuleType) -> None:
    heavy = {part: 1.0 for part in training.PARTS} | {"loss": 95.0}
    light = {part: 1.0 for part in training.PARTS}
    rows = [
        make_row(10_000, 5.0, light, 1.0),
        make_row(100_000, 100.0, heavy, 1.9),
        make_row(1_000_000, 90.0, light, 11),
    ]
    share, growth, more_growth, memory = training.goals_of(rows)
    assert share.measured == pytest.approx(0.97) and not share.met
    assert growth.measured == pytest.approx(20.0) and not growth.met
    assert more_growth.measured == pytest.approx(0.9) and more_growth.met
    assert memory.measured > 0.98 and memory.met
