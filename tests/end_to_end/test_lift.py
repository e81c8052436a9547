"""`gen-langsplat lift`: a run gets new latents and is otherwise unchanged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.lifting import robust
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from genlangsplat_ns.utils.ray import RaySettings
from tests.end_to_end.conftest import lift, make_config, make_trainer


@pytest.fixture
def lifted_run(tiny_run: LanguageScene, tmp_path: Path) -> Path:
    """config.yml of a copy of the finished run."""
    return Path(shutil.copytree(tiny_run.stored.folder, tmp_path / "run")) / "config.yml"


def assert_decoded_alike(model: GenLangSplatModel, expected: GenLangSplatModel) -> None:
    """Checks that both memories decode most latents equally; rounding may move a region to another key."""
    assert model.memory is not None and expected.memory is not None
    latents = expected.latents.detach()[:, 2]
    latents = latents[latents.any(dim=-1)]
    cosines = torch.nn.functional.cosine_similarity(model.field.decode(latents), expected.field.decode(latents), dim=-1)
    assert cosines.median() > 0.99 and cosines.mean() > 0.95


def test_lifting_again_gives_the_same_latents(lifted_run: Path, tiny_run: LanguageScene) -> None:
    before = latest_checkpoint(lifted_run.parent / "nerfstudio_models")
    kept = before.read_bytes()
    written = lift(lifted_run)
    assert written == latest_checkpoint(before.parent) and written != before
    assert before.read_bytes() == kept
    model, expected = open_run(lifted_run).model, tiny_run.model
    torch.testing.assert_close(model.latents, expected.latents, rtol=0, atol=1e-5)
    for name, value in expected.gauss_params.items():
        assert torch.equal(model.gauss_params[name], value) or name == "latents", name
    assert_decoded_alike(model, expected)


def test_other_settings_give_other_latents(
    lifted_run: Path, tiny_run: LanguageScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Left-out views may choose the plain mean; here they must not.
    monkeypatch.setattr(robust, "MAX_RESIDUAL_RATIO", 10.0)
    lift(lifted_run, 2)
    judged = open_run(lifted_run).model.latents
    lift(lifted_run, 0)
    assert not torch.allclose(open_run(lifted_run).model.latents, judged, atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_cluster_gives_the_same_latents(lifted_run: Path, tiny_run: LanguageScene) -> None:
    lift(lifted_run, None, RaySettings(items_per_task=4, num_cpus=0.5))
    model, expected = open_run(lifted_run).model, tiny_run.model
    torch.testing.assert_close(model.latents, expected.latents, rtol=0, atol=1e-5)
    assert_decoded_alike(model, expected)


def test_a_run_stopped_before_its_language_phase_enters_it(tiny_scene: Path, tmp_path: Path) -> None:
    config = make_config(tiny_scene, tmp_path / "outputs")
    trainer = make_trainer(config)
    trainer.save_checkpoint(7)
    assert not trainer.pipeline.model.in_language_phase
    lift(config.get_base_dir() / "config.yml", 0)
    model = open_run(config.get_base_dir() / "config.yml").model
    assert model.in_language_phase and bool(model.latents.any()) and model.memory is not None
