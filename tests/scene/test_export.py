"""A scene written as PLY draws the same picture when it is read again."""

from __future__ import annotations

import json
from pathlib import Path

import plyfile
import pytest
import torch
from safetensors import safe_open

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.selection import SelectionSettings
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.rasterization import Gaussians, render
from genlangsplat_ns.scene import export as module
from genlangsplat_ns.scene.chosen_gaussians import Choice
from genlangsplat_ns.scene.export import export_run
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.ply import read_ply
from tests.scene.language_scenes import NUM_GAUSSIANS, UNSEEN, language_scene, some_camera, two_clouds

LEFT = Choice(TextQuery(("left",)), settings=SelectionSettings(clean_up=False))
HALF = NUM_GAUSSIANS // 2


@pytest.fixture(params=[0, 2], ids=["logits", "harmonics"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> GenLangSplatModel:
    """The model of the run that is opened."""
    model = two_clouds(request.param)
    model.step = 10_000
    monkeypatch.setattr(module, "open_run", lambda path, decoder: language_scene(model))
    return model


def draw(parameters: GaussianParameters, model: GenLangSplatModel) -> torch.Tensor:
    """What a program that knows the format draws: harmonics, logarithms, logits."""
    opacities = torch.sigmoid(parameters.opacities).squeeze(-1)
    gaussians = Gaussians(parameters.means, parameters.quats, parameters.scales.exp(), opacities)
    harmonics = torch.cat([parameters.features_dc[:, None], parameters.features_rest], dim=1)
    return render(gaussians, model.view(some_camera()), harmonics, sh_degree=parameters.sh_degree)[0][0]


def test_the_whole_scene_comes_back_as_the_same_picture(model: GenLangSplatModel, tmp_path: Path) -> None:
    assert export_run(Path("config.yml"), None, False, "nowhere", tmp_path / "all.ply", False) == NUM_GAUSSIANS
    outputs = model.render_splats(some_camera())
    expected = outputs["rgb"] - (1 - outputs["accumulation"]) * outputs["background"]
    torch.testing.assert_close(draw(read_ply(tmp_path / "all.ply"), model), expected, atol=2e-4, rtol=1e-3)


def test_selection_and_rest_make_up_the_scene(model: GenLangSplatModel, tmp_path: Path) -> None:
    assert export_run(Path("config.yml"), LEFT, False, "nowhere", tmp_path / "left.ply", False) == HALF
    assert export_run(Path("config.yml"), LEFT, True, "nowhere", tmp_path / "rest.ply", False) == HALF
    left, rest = read_ply(tmp_path / "left.ply"), read_ply(tmp_path / "rest.ply")
    assert torch.equal(torch.cat([left.means, rest.means]), model.means.detach())
    assert left.means[:, 0].mean() < 0 < rest.means[:, 0].mean()


def test_latents_go_beside_or_into_the_file(model: GenLangSplatModel, tmp_path: Path) -> None:
    expected = model.latents.detach()[:HALF]
    export_run(Path("config.yml"), LEFT, False, "file", tmp_path / "a.ply", False)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("latents"), expected)
        assert json.loads(file.metadata()["autoencoder"])["name"] == "conse-16"
    export_run(Path("config.yml"), LEFT, False, "ply", tmp_path / "b.ply", False)
    vertices = plyfile.PlyData.read(str(tmp_path / "b.ply"))["vertex"]
    assert torch.equal(torch.from_numpy(vertices["latent_whole_3"].copy()), expected[:, 2, 3])
    assert len(read_ply(tmp_path / "b.ply")) == HALF


def test_a_text_can_be_taken_out_of_the_choice(model: GenLangSplatModel, tmp_path: Path) -> None:
    settings = SelectionSettings(clean_up=False)
    both = Choice(TextQuery(("left", "right")), TextQuery(("left",)), settings)
    written = export_run(Path("config.yml"), both, False, "nowhere", tmp_path / "x.ply", False)
    assert written == HALF - UNSEEN


@pytest.mark.parametrize(
    ("name", "choice", "rest", "message"),
    [
        ("x.txt", None, False, r"ends in \.ply"),
        ("there.ply", None, False, "exists.*--overwrite"),
        ("folder.ply", None, False, "is a folder"),
        ("there.ply/x.ply", None, False, "cannot be written"),
        ("x.ply", Choice(TextQuery(("something else",), threshold=0.999)), False, "No Gaussian is selected"),
        ("x.ply", None, True, "No Gaussian is left"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(
    name: str, choice: Choice | None, rest: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_run", lambda path, decoder: language_scene())
    (tmp_path / "there.ply").write_text("kept")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(GenLangSplatError, match=message):
        export_run(Path("config.yml"), choice, rest, "nowhere", tmp_path / name, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.ply", "there.ply"]
    assert (tmp_path / "there.ply").read_text() == "kept"
