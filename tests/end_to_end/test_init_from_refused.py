"""Sources of Gaussians that a run refuses, before anything is extracted or written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene.language_scene import LanguageScene
from tests.end_to_end.conftest import make_trainer
from tests.end_to_end.stock_runs import config_from, trained_gaussians, write_stock_run


def refuse(config: Any, message: str) -> str:
    """Checks that a run fails without extracting or leaving files; returns the message."""
    with pytest.raises(GenLangSplatError, match=message) as caught:
        make_trainer(config)
    assert not (config.data / "language_features").exists()
    assert not config.output_dir.exists()
    return str(caught.value)


@pytest.mark.usefixtures("no_models")
def test_the_error_about_another_frame_has_the_dataparser_options(
    tiny_run: LanguageScene, tiny_scene: Path, scene: Path, tmp_path: Path
) -> None:
    other = {"orientation_method": "none", "center_method": "focus", "auto_scale_poses": False, "scale_factor": 0.5}
    gaussians = trained_gaussians(tiny_run, 1)
    gaussians = replace(gaussians, means=2 * gaussians.means, scales=gaussians.scales + torch.tensor(2.0).log())
    source = write_stock_run(tmp_path / "stock", tiny_scene, gaussians, **other)
    message = refuse(config_from(source, scene, tmp_path / "outputs"), "another frame")
    words = "nerfstudio-data --orientation-method none --center-method focus --auto-scale-poses False"
    assert words in message and "--scale-factor 0.5" in message
    # Without the stored frame, the photographs reveal it.
    source.with_name("dataparser_transforms.json").unlink()
    assert words in refuse(config_from(source, scene, tmp_path / "outputs"), "another frame")


def test_the_dataparser_options_reproduce_the_frame(tiny_run: LanguageScene, tiny_scene: Path, tmp_path: Path) -> None:
    other = {"orientation_method": "none", "center_method": "focus", "auto_scale_poses": False, "scale_factor": 0.5}
    gaussians = trained_gaussians(tiny_run, 1)
    config = config_from(
        write_stock_run(tmp_path / "stock", tiny_scene, gaussians, **other), tiny_scene, tmp_path / "outputs"
    )
    for name, value in other.items():
        setattr(config.pipeline.datamanager.dataparser, name, value)
    model = make_trainer(config).pipeline.model
    assert all(torch.equal(model.gauss_params[name], value) for name, value in gaussians.tensors().items())


@pytest.mark.usefixtures("no_models")
def test_the_same_settings_on_other_data_are_refused(
    tiny_run: LanguageScene, tiny_scene: Path, scene: Path, tmp_path: Path
) -> None:
    source = write_stock_run(tmp_path / "stock", tiny_scene, trained_gaussians(tiny_run, 1))
    transforms = json.loads((scene / "transforms.json").read_text())
    for frame in transforms["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= 2
    (scene / "transforms.json").write_text(json.dumps(transforms))
    message = refuse(config_from(source, scene, tmp_path / "outputs"), "data must differ")
    assert str(tiny_scene) in message


@pytest.mark.usefixtures("no_models")
def test_optimized_cameras_of_other_views_are_refused(
    tiny_run: LanguageScene, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The views are split by the dataparser here, not by the lists that the gallery's data have."""
    transforms = json.loads((scene / "transforms.json").read_text())
    lists = {key: transforms.pop(key) for key in list(transforms) if key.endswith("_filenames")}
    (scene / "transforms.json").write_text(json.dumps(transforms))
    gaussians = trained_gaussians(tiny_run, 1)
    other = {"eval_mode": "interval", "eval_interval": 5}
    source = write_stock_run(tmp_path / "stock", scene, gaussians, camera_mode="SO3xR3", **other)
    message = refuse(config_from(source, scene, tmp_path / "outputs"), "must be the same views")
    assert "--eval-mode interval --eval-interval 5" in message
    # If the data list the views of each split, the settings do not matter.
    (scene / "transforms.json").write_text(json.dumps({**transforms, **lists}))
    source = write_stock_run(tmp_path / "listed", scene, gaussians, camera_mode="SO3xR3", **other)
    with pytest.raises(pytest.fail.Exception, match="was called"):
        make_trainer(config_from(source, scene, tmp_path / "listed-outputs"))
    assert "held out here" not in capsys.readouterr().out


@pytest.mark.usefixtures("no_models")
def test_invalid_sources_are_refused(tiny_run: LanguageScene, scene: Path, tmp_path: Path) -> None:
    def expect(source: Path, message: str, **settings: Any) -> None:
        refuse(config_from(source, scene, tmp_path / "outputs", **settings), message)

    stock = write_stock_run(tmp_path / "stock", scene, trained_gaussians(tiny_run, 1)).parent
    (checkpoint,) = (stock / "nerfstudio_models").iterdir()
    expect(stock / "config.yml", "is a checkpoint, whose Gaussians", frame="data")
    expect(stock / "config.yml", "language-start-step 7", language_start_step=7)

    expect(tmp_path / "nowhere", "There is no .*nowhere")
    (tmp_path / "notes.txt").write_text("not a scene")
    expect(tmp_path / "notes.txt", "notes.txt is no file of this kind")
    (tmp_path / "empty").mkdir()
    expect(tmp_path / "empty", "nothing to start from")
    (tmp_path / "splat.ply").write_text("not a scene")
    expect(tmp_path / "splat.ply", "splat.ply is no file of this kind")

    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    expect(stock, "truncated")
    torch.save({"step": 1, "pipeline": {"_model.field.weight": torch.zeros(2)}}, checkpoint)
    config = yaml.dump(yaml.unsafe_load((stock / "config.yml").read_text()))
    (stock / "config.yml").write_text(config.replace("method_name: splatfacto", "method_name: nerfacto"))
    expect(stock / "config.yml", "of nerfacto and lacks the means")
    checkpoint.unlink()
    expect(stock / "config.yml", r"no step-\*\.ckpt")


@pytest.mark.usefixtures("no_models")
def test_a_real_scene_of_another_location_is_refused(scene: Path, tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "splat_ply_small" / "point_cloud.ply"
    if not source.is_file():
        pytest.skip(f"needs {source}, which is not part of the project")
    message = refuse(config_from(source, scene, tmp_path / "outputs"), "another scene, or are in another frame")
    assert "0% in the frame nerfstudio and 0% in the frame data" in message and "--pipeline.init-frame" in message
