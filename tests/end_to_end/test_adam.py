"""The paper's optimization of the latents: defaults, loss curves, warm start and resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.utils import writer

from genlangsplat_ns.config import gen_langsplat
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.model import GenLangSplatModelConfig
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.lifting import lift_scene
from genlangsplat_ns.scene.metrics import language_metrics
from tests.end_to_end.conftest import lift, make_config, make_trainer, train

STEPS = 60
STOP = 25
"""The step at which runs are inspected or interrupted."""


def adam_config(scene: Path, output: Path, **model: Any) -> Any:
    """A run that optimizes latents on existing Gaussians."""
    config = make_config(scene, output, language_solver="adam", language_steps=STEPS, language_start_step=0, **model)
    config.max_num_iterations = STEPS
    return config


def watch(trainer: Any, last: int, action: Callable[[], None]) -> None:
    """Calls an action after a step."""

    def act(step: int) -> None:
        if step == last:
            action()

    trainer.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], act))


def cosines_of_levels(trainer: Any) -> torch.Tensor:
    """Mean cosine between rendered latents and those of the regions in a training view, per level."""
    model, datamanager = trainer.pipeline.model.eval(), trainer.pipeline.datamanager
    targets, valid = model.language_targets(datamanager.language_features("train", 0))
    with torch.no_grad():
        rendered = model.render_latents(datamanager.camera("train", 0))
    cosine = torch.cosine_similarity(rendered, targets, dim=-1)
    return torch.stack([cosine[..., level][valid[..., level]].mean() for level in range(len(LEVELS))])


def test_the_defaults_are_those_of_the_paper_and_langsplat() -> None:
    """30,000 steps from zeros on L1 and cosine (section III, equation 9); LangSplat's learning rate, kept constant."""
    settings = GenLangSplatModelConfig(language_solver="adam")
    assert settings.num_language_steps == 30_000
    assert not settings.language_warm_start and settings.language_cosine_weight == 1.0
    latents = gen_langsplat.config.optimizers["latents"]
    assert latents["optimizer"].lr == 0.0025 and latents["scheduler"] is None


def test_the_loss_is_l1_and_cosine_from_zeros(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = make_trainer(adam_config(tiny_scene, tmp_path, language_cosine_weight=0.5))
    trainer.pipeline.begin_language_phase(0)
    model = trainer.pipeline.model.train()
    assert not model.latents.any()
    _, losses, metrics = trainer.pipeline.get_train_loss_dict(0)
    assert set(losses) == {"language_l1", "language_cosine"}
    # Zero latents have no direction; their cosine with anything is 0.
    assert float(metrics["lang_cosine"]) == 0 and float(losses["language_cosine"]) == 0.5
    assert float(losses["language_l1"]) == pytest.approx(float(metrics["lang_l1"]))


def test_curves_are_logged_and_every_level_learns(tiny_scene: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(adam_config(tiny_scene, tmp_path))
    seen: dict[str, list[int]] = {}

    def read() -> None:
        for found in writer.EVENT_WRITERS:
            if isinstance(found, writer.TensorboardWriter):
                found.tb_writer.flush()
        events = EventAccumulator(str(trainer.base_dir)).Reload()
        seen.update({tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]})

    watch(trainer, STOP, read)
    trainer.train()
    for curve in ("Loss Dict/language_l1", "Loss Dict/language_cosine", "Metrics Dict/lang_cosine"):
        assert seen[f"Train {curve}"] == [0, 10, 20]
    assert (cosines_of_levels(trainer) > 0.3).all()


def test_a_warm_start_begins_with_the_lifted_latents(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = make_trainer(adam_config(tiny_scene, tmp_path, language_warm_start=True))
    trainer.pipeline.begin_language_phase(0)
    model = trainer.pipeline.model
    assert torch.equal(model.latents, lift_scene(model, trainer.pipeline.datamanager)[0].latents)
    assert model.latents.requires_grad and model.latents.any()
    begun = cosines_of_levels(trainer)
    trainer.train()
    assert (cosines_of_levels(trainer) > begun - 0.05).all()


def test_an_interrupted_optimization_resumes(tiny_scene: Path, tmp_path: Path) -> None:
    """Latents, Adam's moments and the step are those of the checkpoint; the order of the views differs."""
    whole = train(adam_config(tiny_scene, tmp_path / "whole"))
    first = make_trainer(adam_config(tiny_scene, tmp_path / "cut"))

    def interrupt() -> None:
        first.save_checkpoint(STOP)
        raise KeyboardInterrupt

    watch(first, STOP, interrupt)
    with pytest.raises(KeyboardInterrupt):
        first.train()

    config = adam_config(tiny_scene, tmp_path / "cut", language_warm_start=True)
    config.load_dir = first.config.get_checkpoint_dir()
    second = make_trainer(config)
    model = second.pipeline.model
    assert torch.equal(model.latents, first.pipeline.model.latents)
    kept, there = (trainer.optimizers.optimizers["latents"].state_dict()["state"][0] for trainer in (first, second))
    assert there["step"] == STOP + 1 and torch.equal(kept["exp_avg"], there["exp_avg"])
    begun = model.latents.detach().clone()
    second.train()
    # The warm start is not repeated, because the language phase had already started.
    assert second.step in (STEPS - 1, STEPS) and not torch.equal(model.latents, begun)
    assert there["step"] == STEPS
    cosines = [
        language_metrics(LanguageScene(pipeline.model.eval(), pipeline.datamanager)).means["lang_cosine"]
        for pipeline in (whole.pipeline, second.pipeline)
    ]
    assert cosines[1] == pytest.approx(cosines[0], abs=0.05)


def test_optimized_latents_get_a_memory_at_the_end_and_by_lift(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = train(adam_config(tiny_scene, tmp_path))
    model = trainer.pipeline.model
    assert model.memory is not None and len(model.memory) > 1
    config = trainer.config.get_base_dir() / "config.yml"
    lift(config)
    again = open_run(config).model
    assert torch.equal(again.latents, model.latents), "they are not lifted"
    assert again.memory is not None and torch.equal(again.memory.keys, model.memory.keys)
