"""Runs that start from existing Gaussians: what they adopt, and where the Gaussians end up."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import Gaussians, render
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.init_from import open_geometry
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.lifting import lift_scene
from genlangsplat_ns.scene.placement import photometric_r2
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from genlangsplat_ns.scene_io.frames import SceneFrame, half_turn, move_gaussians
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.ply import write_ply
from genlangsplat_ns.scene_io.splat_files import write_splats
from genlangsplat_ns.views.cameras import world_to_camera
from tests.end_to_end.commands import run
from tests.end_to_end.conftest import make_config, make_trainer, train
from tests.end_to_end.stock_runs import config_from, trained_gaussians, write_stock_run
from tests.scene_io.gaussian_fakes import psnr, same_bits


def assert_holds(model: Any, gaussians: GaussianParameters) -> None:
    """Checks that the model has exactly these Gaussians, and latents on seen Gaussians."""
    for name, value in gaussians.tensors().items():
        assert torch.equal(model.gauss_params[name], value), name
    assert model.in_language_phase and int(model.language_phase_start) == 0
    assert model.latents.any(dim=-1).float().mean() > 0.5


def image(model: Any, datamanager: Any) -> torch.Tensor:
    """A held-out view rendered by the model."""
    with torch.no_grad():
        return model.eval().render_splats(datamanager.camera("eval", 0))["rgb"]


def drawn(gaussians: GaussianParameters, run: LanguageScene) -> torch.Tensor:
    """A held-out view of Gaussians, rendered by the conventions of files of splats."""
    view = run.model.view(run.datamanager.camera("eval", 0))
    scene = Gaussians(gaussians.means, gaussians.quats, gaussians.scales.exp(), gaussians.opacities.sigmoid()[:, 0])
    harmonics = torch.cat([gaussians.features_dc[:, None], gaussians.features_rest], dim=1)
    return render(scene, view, harmonics, sh_degree=gaussians.sh_degree)[0][0].clamp(0, 1)


def data_frame(run: LanguageScene) -> SceneFrame:
    """The transform from a run's frame to the frame of its data."""
    outputs = run.datamanager.train_dataparser_outputs
    here = SceneFrame(outputs.dataparser_transform, float(outputs.dataparser_scale))
    back = torch.linalg.inv(here.matrix)[:3]
    return SceneFrame(here.scale * back, 1 / here.scale)


@pytest.mark.parametrize("degree", [0, 3])
def test_a_stock_run_goes_straight_to_the_language_phase(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path, degree: int
) -> None:
    gaussians = trained_gaussians(tiny_run, degree)
    settings = {"rasterize_mode": "antialiased", "background_color": "white"}
    source = write_stock_run(tmp_path / "stock", tiny_scene, gaussians, model=settings)
    before = {path: path.read_bytes() for path in (tmp_path / "stock").rglob("*") if path.is_file()}
    trainer = train(config_from(source, tiny_scene, tmp_path / "outputs"))
    assert {path: path.read_bytes() for path in before} == before
    model = trainer.pipeline.model
    assert_holds(model, gaussians)
    assert trainer.step == 0 and trainer.config.max_num_iterations == 1
    shown = image(model, trainer.pipeline.datamanager)

    shutil.rmtree(tmp_path / "stock")
    scene = open_run(trainer.config.get_base_dir() / "config.yml")
    assert_holds(scene.model, gaussians)
    assert scene.model.config.sh_degree == degree and scene.model.colors()[1] == (degree or None)
    assert scene.model.config.rasterize_mode == "antialiased" and scene.model.config.background_color == "white"
    assert torch.equal(scene.model.latents, model.latents)
    assert torch.equal(image(scene.model, scene.datamanager), shown)


def test_every_form_of_a_path_finds_the_newest_checkpoint(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path
) -> None:
    gaussians = trained_gaussians(tiny_run, 1)
    config = write_stock_run(tmp_path / "stock", tiny_scene, gaussians)
    models = config.parent / "nerfstudio_models"
    shutil.copy(models / "step-000029999.ckpt", models / "step-000002000.ckpt")
    for path in (config, config.parent, models, models / "step-000029999.ckpt"):
        source = open_geometry(path)
        assert source.path == models / "step-000029999.ckpt" and same_bits(source.gaussians, gaussians)
        assert source.run is not None and source.run.method == "splatfacto" and source.frame is not None
    assert open_geometry(models / "step-000002000.ckpt").path.name == "step-000002000.ckpt"
    config.unlink()
    alone = open_geometry(config.parent)
    assert alone.run is None and alone.frame is not None


@pytest.mark.parametrize("mode", ["SO3xR3", "SE3"])
def test_optimized_cameras_are_adopted_for_lifting(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path, mode: str
) -> None:
    source = write_stock_run(tmp_path / "stock", tiny_scene, trained_gaussians(tiny_run, 1), camera_mode=mode)
    (checkpoint,) = (tmp_path / "stock" / "nerfstudio_models").iterdir()
    stored = torch.load(checkpoint, weights_only=True)["pipeline"]["_model.camera_optimizer.pose_adjustment"]
    trainer = train(config_from(source, tiny_scene, tmp_path / "outputs"))
    pipeline = trainer.pipeline
    optimizer = pipeline.model.camera_optimizer
    assert optimizer.config.mode == mode and torch.equal(optimizer.pose_adjustment, stored)

    raw = pipeline.datamanager.train_dataset.cameras[2:3].camera_to_worlds
    correction = optimizer(torch.tensor([2]))
    moved = torch.cat([correction[:, :, :3] @ raw[:, :, :3], raw[:, :, 3:] + correction[:, :, 3:]], dim=2)
    assert not torch.allclose(moved, raw, atol=1e-3)
    view = pipeline.model.view(pipeline.datamanager.camera("train", 2))
    assert torch.allclose(view.viewmat, world_to_camera(moved)[0], atol=1e-6)
    held_out = pipeline.datamanager.camera("eval", 1)
    assert torch.equal(pipeline.model.view(held_out).viewmat, world_to_camera(held_out.camera_to_worlds)[0])

    assert torch.equal(lift_scene(pipeline.model, pipeline.datamanager)[0].latents, pipeline.model.latents)
    optimizer.pose_adjustment.data.zero_()
    assert not torch.equal(lift_scene(pipeline.model, pipeline.datamanager)[0].latents, pipeline.model.latents)
    scene = open_run(trainer.config.get_base_dir() / "config.yml")
    assert torch.equal(scene.model.camera_optimizer.pose_adjustment, stored)


def test_a_checkpoint_without_its_run_is_compared_with_the_photographs(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    gaussians = trained_gaussians(tiny_run, 1)
    write_stock_run(tmp_path / "stock", tiny_scene, gaussians, camera_mode="SO3xR3")
    (checkpoint,) = (tmp_path / "stock" / "nerfstudio_models").iterdir()
    alone = Path(shutil.copy(checkpoint, tmp_path / "splat.ckpt"))
    trainer = train(config_from(alone, tiny_scene, tmp_path / "outputs"))
    assert_holds(trainer.pipeline.model, gaussians)
    output = " ".join(capsys.readouterr().out.split())
    assert "SO3xR3 is assumed" in output and "in the frame nerfstudio" in output


@pytest.mark.parametrize("degree", [0, 3])
def test_a_ply_file_of_nerfstudio_is_not_moved(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path, degree: int
) -> None:
    gaussians = trained_gaussians(tiny_run, max(degree, 1))
    written = gaussians if degree > 0 else replace(gaussians, features_rest=gaussians.features_rest[:, :0])
    write_ply(tmp_path / "splat.ply", written)
    trainer = train(config_from(tmp_path / "splat.ply", tiny_scene, tmp_path / "outputs"))
    model = trainer.pipeline.model
    if degree == 0:
        # At degree 0, splatfacto's colors are logits, which cannot represent the file's colors exactly.
        gaussians = replace(gaussians, features_rest=torch.zeros_like(gaussians.features_rest))
    assert_holds(model, gaussians)
    assert model.config.sh_degree == max(degree, 1)
    (tmp_path / "splat.ply").unlink()
    assert_holds(open_run(trainer.config.get_base_dir() / "config.yml").model, gaussians)


def test_a_ply_file_in_the_frame_of_the_data_is_moved(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A file as from Inria's program must render like the Gaussians in nerfstudio's frame."""
    gaussians = trained_gaussians(tiny_run, 3)
    write_ply(tmp_path / "inria.ply", move_gaussians(gaussians, data_frame(tiny_run)))
    write_ply(tmp_path / "here.ply", gaussians)
    images = []
    for name, frame in (("here", "auto"), ("inria", "auto"), ("inria", "data")):
        config = config_from(tmp_path / f"{name}.ply", tiny_scene, tmp_path / "outputs", frame)
        pipeline = make_trainer(config).pipeline
        images.append(image(pipeline.model, pipeline.datamanager))
        assert torch.allclose(pipeline.model.means, gaussians.means, atol=1e-5)
    assert (images[0] - images[1]).abs().max() < 1e-3
    assert torch.equal(images[1], images[2])
    assert "0% in the frame nerfstudio and" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("ending", [".compressed.ply", ".spz", ".sog"])
@pytest.mark.parametrize("in_data_frame", [False, True], ids=["nerfstudio", "data"])
def test_files_of_other_formats_show_the_same_picture(
    tiny_run: LanguageScene, tmp_path: Path, ending: str, in_data_frame: bool
) -> None:
    gaussians = trained_gaussians(tiny_run, 3)
    written = move_gaussians(gaussians, data_frame(tiny_run)) if in_data_frame else gaussians
    write_splats(tmp_path / f"scene{ending}", written)
    placed = open_geometry(tmp_path / f"scene{ending}").place(tiny_run.datamanager, "auto")
    assert psnr(drawn(placed, tiny_run), drawn(gaussians, tiny_run)) > 40


def test_the_photographs_tell_whether_an_spz_file_is_turned(
    tiny_run: LanguageScene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gaussians = trained_gaussians(tiny_run, 1)
    moved = move_gaussians(gaussians, data_frame(tiny_run))
    for name, written, frame in (("here", gaussians, "nerfstudio"), ("data", moved, "data")):
        write_splats(tmp_path / f"{name}.spz", half_turn(written))
        for asked in ("auto", frame):
            caplog.clear()
            placed = open_geometry(tmp_path / f"{name}.spz").place(tiny_run.datamanager, asked)
            assert torch.allclose(placed.means, gaussians.means, atol=1e-3)
            assert f"in the frame {frame}, turned" in caplog.text
    # No photograph tells anything about another scene, so a frame that the user gives is that of the file.
    write_splats(tmp_path / "other.spz", replace(gaussians, means=10 * gaussians.means))
    placed = open_geometry(tmp_path / "other.spz").place(tiny_run.datamanager, "nerfstudio")
    assert torch.allclose(placed.means, 10 * gaussians.means, atol=1e-3)


@pytest.mark.parametrize("name", ["scene.ply", "scene.sog"])
def test_a_file_for_antialiasing_sets_the_rasterizer(
    tiny_run: LanguageScene, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for antialiased in (False, True):
        write_splats(tmp_path / name, trained_gaussians(tiny_run, 1), antialiased=antialiased)
        model = make_config(tmp_path, tmp_path).pipeline.model
        open_geometry(tmp_path / name).take_settings(model)
        assert model.rasterize_mode == ("antialiased" if antialiased else "classic")
        assert ("--pipeline.model.rasterize-mode antialiased" in caplog.text) is antialiased


def test_what_is_no_splat_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Some notes.")
    with pytest.raises(GenLangSplatError, match=r"Expected a file of Gaussian splats.*notes\.txt is no file of this"):
        open_geometry(tmp_path / "notes.txt")
    with pytest.raises(GenLangSplatError, match=r"Found no step-\*\.ckpt in .*or a file of Gaussian splats: PLY,"):
        open_geometry(tmp_path)


def test_a_scene_of_the_wrong_size_explains_no_photographs(tiny_run: LanguageScene) -> None:
    """A scene scaled down is in front of every camera, so the number of visible Gaussians would not detect it."""
    gaussians, views = trained_gaussians(tiny_run, 1), tiny_run.datamanager
    assert photometric_r2(gaussians, views) > 0.6
    for factor in (0.1, 0.5, 2.0, 10.0):
        scales = gaussians.scales + torch.tensor(factor).log()
        assert photometric_r2(replace(gaussians, means=factor * gaussians.means, scales=scales), views) < 0.1


def test_a_frame_given_by_the_user_is_used(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    moved = move_gaussians(trained_gaussians(tiny_run, 1), data_frame(tiny_run))
    write_ply(tmp_path / "inria.ply", moved)
    trainer = make_trainer(config_from(tmp_path / "inria.ply", tiny_scene, tmp_path / "outputs", "nerfstudio"))
    assert torch.equal(trainer.pipeline.model.means, moved.means)
    assert "but at least 40% is expected" in " ".join(capsys.readouterr().out.split())


def test_an_interrupted_run_resumes_without_its_source(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path
) -> None:
    gaussians = trained_gaussians(tiny_run, 2)
    source = write_stock_run(tmp_path / "stock", tiny_scene, gaussians, camera_mode="SO3xR3")
    adam = {"language_solver": "adam", "language_steps": 12}
    first = make_trainer(config_from(source, tiny_scene, tmp_path / "outputs", **adam))

    def interrupt(step: int) -> None:
        if step == 4:
            first.save_checkpoint(step)
            raise KeyboardInterrupt

    first.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], interrupt))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    halfway = first.pipeline.model.latents.detach().clone()
    shutil.rmtree(tmp_path / "stock")

    # The frame of the source does not matter any more either.
    config = config_from(source, tiny_scene, tmp_path / "outputs", "data", **adam)
    config.load_dir = first.config.get_checkpoint_dir()
    second = make_trainer(config)
    assert torch.equal(second.pipeline.model.latents, halfway)
    second.train()
    assert second.config.max_num_iterations == 12 and second.step in (11, 12)
    assert_holds(second.pipeline.model, gaussians)
    assert not torch.equal(second.pipeline.model.latents, halfway)

    plain = make_config(tiny_scene, tmp_path / "outputs", sh_degree=2, **adam)
    plain.max_num_iterations = 100
    plain.pipeline.model.camera_optimizer.mode = "SO3xR3"
    plain.load_dir = first.config.get_checkpoint_dir()
    with pytest.raises(GenLangSplatError, match="the run ends after 12 steps"):
        make_trainer(plain)


def test_a_run_of_this_method_can_be_the_source_and_is_lifted_again(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path
) -> None:
    source = tiny_run.stored.config_path
    trainer = train(config_from(source, tiny_scene, tmp_path / "outputs"))
    assert_holds(trainer.pipeline.model, trained_gaussians(tiny_run))
    assert torch.allclose(trainer.pipeline.model.latents, tiny_run.model.latents, atol=1e-5)


def test_an_rgb_phase_cannot_be_resumed_with_init_from(
    tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path
) -> None:
    first = make_trainer(make_config(tiny_scene, tmp_path / "first"))
    first.save_checkpoint(20)
    outputs = first.pipeline.datamanager.train_dataparser_outputs
    outputs.save_dataparser_transform(first.base_dir / "dataparser_transforms.json")
    config = config_from(tmp_path / "gone.ply", tiny_scene, tmp_path / "second")
    config.load_dir = first.config.get_checkpoint_dir()
    with pytest.raises(GenLangSplatError, match="step 20 of the RGB phase"):
        make_trainer(config)


@pytest.mark.slow
def test_the_real_commands_work(tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path) -> None:
    source = write_stock_run(tmp_path / "stock", tiny_scene, trained_gaussians(tiny_run, 3))
    run(
        *("ns-train", "gen-langsplat", "--data", tiny_scene, "--vis", "tensorboard", "--pipeline.init-from", source),
        *("nerfstudio-data", "--orientation-method", "up"),
        folder=tmp_path,
    )
    shutil.rmtree(tmp_path / "stock")
    (config,) = tmp_path.glob("outputs/**/config.yml")
    newest = latest_checkpoint(config.parent / "nerfstudio_models")
    assert newest is not None and newest.name == "step-000000000.ckpt"
    run("ns-eval", "--load-config", config, "--output-path", tmp_path / "metrics.json", folder=tmp_path)
    results = json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert results["psnr"] > 15 and results["lang_cosine"] > 0
    asking = ("gen-langsplat", "query", "--load-config", config, "--text", "a cat", "--split", "eval")
    run(*asking, "--output-dir", "answers", folder=tmp_path)
    assert (tmp_path / "answers" / "query.json").is_file()
