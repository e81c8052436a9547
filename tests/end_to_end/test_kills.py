"""Runs that are killed with signal 9 and resumed: the lost work, and the same latents at the end."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from tests.end_to_end.conftest import RGB_STEPS, copy_scene, train
from tests.end_to_end.killed_run import killed_run_config, train_until_killed
from tests.end_to_end.quick_extraction import stored

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_encoder")]


@pytest.fixture(scope="module")
def undisturbed(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory, quick_encoder: None) -> Any:
    """The trainer of the same run without a kill."""
    scene = copy_scene(tiny_scene, tmp_path_factory.mktemp("undisturbed"))
    return train(killed_run_config(scene, scene.parent / "outputs"))


def kill(scene: Path, output: Path, place: str) -> list[int]:
    """Trains in a separate process until it is killed; returns the steps of its checkpoints."""
    # A server with all imports forks the processes, so that they start quickly.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([train_until_killed.__module__])
    process = context.Process(target=train_until_killed, args=(scene, output, place))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return sorted(int(path.stem.split("-")[1]) for path in output.rglob("step-*.ckpt"))


def resume(scene: Path, output: Path) -> Any:
    """Resumes a killed run like a user and returns the trainer."""
    config = killed_run_config(scene, output)
    folder = config.get_checkpoint_dir()
    config.load_dir = folder if latest_checkpoint(folder) is not None else None
    trainer = train(config)
    assert trainer.pipeline.model.in_language_phase and trainer.step in (RGB_STEPS, RGB_STEPS + 1)
    return trainer


def held_out_latents(trainer: Any) -> torch.Tensor:
    """The latents rendered in a held-out view."""
    with torch.no_grad():
        return trainer.pipeline.model.eval().render_latents(trainer.pipeline.datamanager.camera("eval", 0))


@pytest.mark.parametrize("place", ["between the phases", "lifting"])
def test_a_kill_during_lifting_only_loses_the_lifting(
    undisturbed: Any, scene: Path, tmp_path: Path, place: str
) -> None:
    assert kill(scene, tmp_path / "outputs", place)[-1] == RGB_STEPS - 1
    model, expected = resume(scene, tmp_path / "outputs").pipeline.model, undisturbed.pipeline.model
    assert torch.equal(model.means, expected.means)
    assert torch.equal(model.latents, expected.latents)


def test_a_kill_during_extraction_keeps_the_stored_features(
    undisturbed: Any, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert kill(scene, tmp_path / "outputs", "extraction") == []
    model = resume(scene, tmp_path / "outputs").pipeline.model
    assert "4 of 10 views are stored" in " ".join(capsys.readouterr().out.split())
    assert torch.equal(model.latents, undisturbed.pipeline.model.latents)
    assert stored(scene / "language_features") == stored(undisturbed.config.data / "language_features")


def test_a_kill_in_splat_training_ends_with_nearly_the_same_latents(
    undisturbed: Any, scene: Path, tmp_path: Path
) -> None:
    """The order of the views restarts at a resume, so the Gaussians and their latents differ slightly."""
    assert kill(scene, tmp_path / "outputs", "splat training")[-1] == 20
    first, second = held_out_latents(resume(scene, tmp_path / "outputs")), held_out_latents(undisturbed)
    shown = second.norm(dim=-1) > 0.5
    assert cosine_similarity(first[shown], second[shown], dim=-1).mean() > 0.99
