"""The two phases of a run: frozen parameters, checkpoints and resuming."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import encoder_identity
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.lifting.loss import language_fidelity
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from tests.end_to_end.conftest import LEARNING_STEPS, RGB_STEPS, make_config, make_trainer

GEOMETRY = ("means", "scales", "quats", "features_dc", "features_rest", "opacities")
"""Parameters of a Gaussian that are frozen in the language phase."""


def snapshot(model: Any) -> dict[str, torch.Tensor]:
    """Copies every Gaussian parameter."""
    return {name: parameter.detach().clone() for name, parameter in model.gauss_params.items()}


def checkpoints(trainer: Any) -> Path:
    return trainer.config.get_checkpoint_dir()


def test_both_phases_leave_unit_latents_on_seen_gaussians(tiny_run: LanguageScene) -> None:
    model = tiny_run.model
    assert model.in_language_phase
    assert int(model.language_phase_start) == LEARNING_STEPS
    lengths = model.latents.detach().norm(dim=-1)
    seen = lengths > 0
    assert model.latents.shape == (model.num_points, 3, 16)
    assert torch.allclose(lengths[seen], torch.ones(int(seen.sum())), atol=1e-4)
    assert seen.float().mean() > 0.5


def test_rgb_training_moves_the_gaussians_and_learns(tiny_run: LanguageScene) -> None:
    """After training, a render is closer to a training view than a constant gray image."""
    datamanager, model = tiny_run.datamanager, tiny_run.model.eval()
    truth = datamanager.image("train", 0).float() / 255
    with torch.no_grad():
        render = model.render_splats(datamanager.camera("train", 0))["rgb"]
    assert (render - truth).square().mean() < 0.5 * (truth.mean(dim=(0, 1)) - truth).square().mean()


def test_the_photograph_is_scaled_again_only_when_the_size_changes(tiny_scene: Path, tmp_path: Path) -> None:
    model = make_trainer(make_config(tiny_scene, tmp_path, num_downscales=1)).pipeline.model.train()
    first, second = torch.rand(96, 128, 3), torch.rand(96, 128, 3)
    half = model.get_gt_img(first)
    assert half.shape == (48, 64, 3) and model.get_gt_img(first) is half
    assert torch.allclose(half[0, 0], first[:2, :2].mean(dim=(0, 1)), atol=1e-5)
    assert not torch.equal(model.get_gt_img(second), half)
    model.step = model.config.resolution_schedule
    assert torch.equal(model.get_gt_img(second), second)


def test_the_paper_solver_changes_only_latents(tiny_scene: Path, tmp_path: Path) -> None:
    config = make_config(tiny_scene, tmp_path, language_solver="adam", language_steps=25)
    config.max_num_iterations = RGB_STEPS + 25
    trainer = make_trainer(config)
    model = trainer.pipeline.model
    begun: dict[str, torch.Tensor] = {}
    enter = model.enter_language_phase

    def remember(step: int) -> None:
        begun.update(snapshot(model))
        enter(step)

    model.enter_language_phase = remember
    trainer.train()
    for name in GEOMETRY:
        assert torch.equal(model.gauss_params[name], begun[name]), f"{name} changed in the language phase"
    assert not torch.equal(model.latents, begun["latents"])

    model.eval()
    camera = trainer.pipeline.datamanager.camera("train", 0)
    targets, valid = model.language_targets(trainer.pipeline.datamanager.language_features("train", 0))
    with torch.no_grad():
        _, cosine = language_fidelity(model.render_latents(camera), targets, valid)
    assert float(cosine) > 0.3


def test_rendering_with_cached_weights_equals_rendering(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = make_trainer(make_config(tiny_scene, tmp_path, language_solver="adam", language_start_step=0))
    model, datamanager = trainer.pipeline.model, trainer.pipeline.datamanager
    model.enter_language_phase(0)
    with torch.no_grad():
        model.latents.normal_()
    gradients = {}
    for gigabytes in (0.0, 1.0):
        model.config.language_cache_gb = gigabytes
        model.enter_language_phase(0)
        for _ in range(2):
            camera = datamanager.camera("train", 0)
            camera.metadata = {"cam_idx": 0}
            kept = model.train().get_outputs(camera)["latents"]
        assert len(model._weight_cache) == (gigabytes > 0)
        anew = model.render_latents(camera)
        assert (kept - anew).norm() < 1e-3 * anew.norm()
        gradients[gigabytes] = [torch.autograd.grad(value.square().sum(), model.latents)[0] for value in (kept, anew)]
    for found, expected in gradients.values():
        assert (found - expected).norm() < 1e-3 * expected.norm()


def test_lifting_leaves_the_geometry_bit_identical(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = make_trainer(make_config(tiny_scene, tmp_path, language_start_step=0))
    before = snapshot(trainer.pipeline.model)
    trainer.train()
    model = trainer.pipeline.model
    assert all(torch.equal(model.gauss_params[name], before[name]) for name in GEOMETRY)
    assert model.latents.abs().sum() > 0


@pytest.mark.parametrize("stop_at", [15, RGB_STEPS])
def test_a_resumed_run_trains_and_ends_at_the_correct_step(tiny_scene: Path, tmp_path: Path, stop_at: int) -> None:
    """The run is loaded again after `stop_at` steps: in the RGB phase and right before lifting."""
    first_config = make_config(tiny_scene, tmp_path, language_start_step=RGB_STEPS)
    first = make_trainer(first_config)

    class Stop(Exception):
        pass

    def interrupt(step: int) -> None:
        if step + 1 == stop_at:
            first.save_checkpoint(step)
            raise Stop

    first.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], interrupt))
    with pytest.raises(Stop):
        first.train()
    loaded = snapshot(first.pipeline.model)

    config = make_config(tiny_scene, tmp_path, language_start_step=RGB_STEPS)
    config.load_dir = checkpoints(first)
    second = make_trainer(config)
    model = second.pipeline.model
    assert all(torch.equal(model.gauss_params[name], value) for name, value in loaded.items())
    assert not model.in_language_phase
    for name, parameter in model.gauss_params.items():
        assert second.optimizers.optimizers[name].param_groups[0]["params"][0] is parameter
    second.train()
    moved = not torch.equal(model.gauss_params["means"][:100], loaded["means"][:100])
    assert moved == (stop_at < RGB_STEPS)
    assert model.in_language_phase and model.latents.abs().sum() > 0
    newest = latest_checkpoint(checkpoints(second))
    assert newest is not None and int(newest.stem.split("-")[1]) in (RGB_STEPS, RGB_STEPS + 1)


def test_resuming_a_complete_run_is_refused(tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path) -> None:
    config = make_config(tiny_scene, tmp_path, rgb_steps=LEARNING_STEPS)
    config.load_dir = tiny_run.stored.folder / "nerfstudio_models"
    with pytest.raises(GenLangSplatError, match="complete"):
        make_trainer(config)


def test_a_run_with_too_few_steps_for_the_rgb_phase_is_refused(tiny_scene: Path, tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="leaves 2 for the RGB phase"):
        make_trainer(make_config(tiny_scene, tmp_path, rgb_steps=2))
    with pytest.raises(GenLangSplatError, match="after the end"):
        make_trainer(make_config(tiny_scene, tmp_path, language_start_step=1000))


def test_a_truncated_checkpoint_is_reported_before_loading(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path
) -> None:
    whole = latest_checkpoint(tiny_run.stored.folder / "nerfstudio_models")
    assert whole is not None
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / whole.name).write_bytes(whole.read_bytes()[:5000])
    config = make_config(tiny_scene, tmp_path)
    config.load_dir = folder
    with pytest.raises(GenLangSplatError, match="truncated"):
        make_trainer(config)


def test_the_error_about_another_autoencoder_names_it(tiny_run: LanguageScene, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_run.model
    monkeypatch.setattr(model.config, "autoencoder", "conse")
    state = model.state_dict()
    state["field_head._extra_state"] = {**state["field_head._extra_state"], "name": "another-one"}
    with pytest.raises(GenLangSplatError, match="another-one"):
        model.load_state_dict(state)


def test_an_autoencoder_of_another_width_than_the_checkpoint_is_refused(tiny_scene: Path, tmp_path: Path) -> None:
    first = make_trainer(make_config(tiny_scene, tmp_path / "first"))
    first.save_checkpoint(20)
    narrow = tmp_path / "narrow.safetensors"
    save_autoencoder(narrow, Autoencoder(AutoencoderIdentity("narrow", encoder_identity("conse"), 384, 8)))
    config = make_config(tiny_scene, tmp_path / "second", autoencoder=str(narrow))
    config.load_dir = checkpoints(first)
    before = {path: path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file()}
    expected = r"made with another autoencoder: .*'latent_dim': 16.*'latent_dim': 8.*Set --pipeline\.model\.autoencoder"
    with pytest.raises(GenLangSplatError, match=expected):
        make_trainer(config)
    assert not (tmp_path / "second").exists()
    assert {path: path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file()} == before


def test_stock_splatfacto_weights_start_in_the_rgb_phase(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path
) -> None:
    """A splatfacto checkpoint has the six vanilla parameters (and LPIPS weights, which are dropped)."""
    trained = tiny_run.model
    stock = {f"gauss_params.{name}": trained.gauss_params[name].detach().clone() for name in GEOMETRY}
    stock |= {"lpips.net.weight": torch.zeros(3), "device_indicator_param": trained.device_indicator_param.detach()}
    model = make_trainer(make_config(tiny_scene, tmp_path)).pipeline.model
    model.load_state_dict(stock)
    assert not model.in_language_phase
    assert model.latents.shape[0] == trained.num_points and not model.latents.any()
    assert torch.equal(model.means, trained.means)


def test_a_foreign_checkpoint_is_refused(tiny_run: LanguageScene) -> None:
    with pytest.raises(GenLangSplatError, match="holds no Gaussians"):
        tiny_run.model.load_state_dict({"field.weight": torch.zeros(2)})


def test_splatfactos_options_still_train(tiny_scene: Path, tmp_path: Path) -> None:
    """Bilateral grid, camera optimizer, antialiasing and harmonics work together on the CPU."""
    config = make_config(
        tiny_scene,
        tmp_path,
        use_bilateral_grid=True,
        rasterize_mode="antialiased",
        sh_degree=2,
        sh_degree_interval=10,
        camera_optimizer=CameraOptimizerConfig(mode="SO3xR3"),
    )
    trainer = make_trainer(config)
    model = trainer.pipeline.model
    before = model.camera_optimizer.pose_adjustment.detach().clone(), model.bil_grids.grids.detach().clone()
    trainer.train()
    assert not torch.equal(model.camera_optimizer.pose_adjustment, before[0])
    assert not torch.equal(model.bil_grids.grids, before[1])
    assert bool(model.features_rest.any()) and bool(model.means.isfinite().all())


def test_checkpoints_are_saved_atomically(tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(make_config(tiny_scene, tmp_path))
    folder = trainer.checkpoint_dir
    trainer.save_checkpoint(10)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def cut(state: Any, file: BinaryIO) -> None:
        file.write(b"half of it")
        # Files that a killed process leaves are still there when the next process saves.
        monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            trainer.save_checkpoint(20)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    trainer.save_checkpoint(20)
    assert [path.name for path in folder.iterdir()] == ["step-000000020.ckpt"]
    assert torch.load(folder / "step-000000020.ckpt", weights_only=True)["step"] == 20
