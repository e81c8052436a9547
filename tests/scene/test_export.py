"""A scene exported as PLY renders the same image after it is read again."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import plyfile
import pytest
import torch
from safetensors import safe_open
from scipy.spatial.transform import Rotation

from genlangsplat_ns.commands.export import Export
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import QuerySettings, SelectionSettings
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.rasterization import Gaussians, render
from genlangsplat_ns.scene.export import FrameName
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.frames import SceneFrame, move_gaussians
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.ply import read_offset, read_ply
from genlangsplat_ns.scene_io.runs import StoredRun
from genlangsplat_ns.scene_io.splat_files import ENDINGS, read_splats
from tests.scene.language_scenes import NUM_GAUSSIANS, UNSEEN, language_scene, some_camera, two_clouds
from tests.scene_io.gaussian_fakes import psnr

HALF = NUM_GAUSSIANS // 2


@pytest.fixture(params=[0, 2], ids=["logits", "harmonics"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> GenLangSplatModel:
    """The model of the opened run."""
    model = two_clouds(request.param)
    model.step = 10_000
    monkeypatch.setattr(Export, "open", lambda self: language_scene(model))
    return model


def export(output: Path, *text: str, threshold: float = 0.8, **flags: Any) -> int:
    """Runs the command and returns the number of exported Gaussians."""
    selection, query = SelectionSettings(clean_up=False), QuerySettings(threshold=threshold)
    Export(load_config=Path("config.yml"), text=text, output=output, query=query, selection=selection, **flags)()
    return len(read_ply(output))


def draw(parameters: GaussianParameters, model: GenLangSplatModel) -> torch.Tensor:
    """Renders a PLY file by the conventions of its format: harmonics, log scales and logits."""
    opacities = torch.sigmoid(parameters.opacities).squeeze(-1)
    gaussians = Gaussians(parameters.means, parameters.quats, parameters.scales.exp(), opacities)
    harmonics = torch.cat([parameters.features_dc[:, None], parameters.features_rest], dim=1)
    return render(gaussians, model.view(some_camera()), harmonics, sh_degree=parameters.sh_degree)[0][0]


def test_the_exported_scene_renders_the_same_image(model: GenLangSplatModel, tmp_path: Path) -> None:
    assert export(tmp_path / "all.ply") == NUM_GAUSSIANS
    outputs = model.render_splats(some_camera())
    expected = outputs["rgb"] - (1 - outputs["accumulation"]) * outputs["background"]
    torch.testing.assert_close(draw(read_ply(tmp_path / "all.ply"), model), expected, atol=2e-4, rtol=1e-3)


def test_selection_and_rest_make_up_the_scene(model: GenLangSplatModel, tmp_path: Path) -> None:
    assert export(tmp_path / "left.ply", "left") == HALF
    assert export(tmp_path / "rest.ply", "left", rest=True) == HALF
    left, rest = read_ply(tmp_path / "left.ply"), read_ply(tmp_path / "rest.ply")
    assert torch.equal(torch.cat([left.means, rest.means]), model.means.detach())
    assert left.means[:, 0].mean() < 0 < rest.means[:, 0].mean()


def test_latents_are_written_next_to_or_into_the_file(model: GenLangSplatModel, tmp_path: Path) -> None:
    expected = model.latents.detach()[:HALF]
    export(tmp_path / "a.ply", "left", latents="file")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("latents"), expected)
        assert json.loads(file.metadata()["autoencoder"])["name"] == "conse-16"
    export(tmp_path / "b.ply", "left", latents="ply")
    vertices = plyfile.PlyData.read(str(tmp_path / "b.ply"))["vertex"]
    assert torch.equal(torch.from_numpy(vertices["latent_whole_3"].copy()), expected[:, 2, 3])
    assert len(read_ply(tmp_path / "b.ply")) == HALF


@pytest.mark.parametrize("ending", [".compressed.ply", ".spz", ".sog"])
def test_the_ending_is_the_format_and_the_latents_have_the_order_of_the_file(
    ending: str, model: GenLangSplatModel, tmp_path: Path
) -> None:
    Export(load_config=Path("config.yml"), output=tmp_path / f"all{ending}", latents="file")()
    read = read_splats(tmp_path / f"all{ending}")
    assert read.format is ENDINGS[ending] and not read.antialiased
    picture = draw(read.gaussians, model)
    assert psnr(picture, draw(model.splats(model.drawable()), model)) > 40
    with safe_open(tmp_path / "all.safetensors", framework="pt") as file:
        latents = file.get_tensor("latents")
    # Each Gaussian of the file is the one of the model nearest to it.
    nearest = torch.cdist(read.gaussians.means, model.means.detach()).argmin(dim=1)
    assert torch.equal(latents, model.latents.detach()[nearest])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"all{ending}", "all.safetensors"])


def test_a_file_of_an_antialiased_run_says_so(model: GenLangSplatModel, tmp_path: Path) -> None:
    model.config.rasterize_mode = "antialiased"
    for ending in (".ply", ".spz"):
        Export(load_config=Path("config.yml"), output=tmp_path / f"all{ending}")()
        assert read_splats(tmp_path / f"all{ending}").antialiased


def test_latents_are_properties_of_ply_files_only(model: GenLangSplatModel, tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"--latents ply .*only \.ply files.*--latents file"):
        Export(load_config=Path("config.yml"), output=tmp_path / "all.spz", latents="ply")()
    assert not list(tmp_path.iterdir())


def test_a_text_can_be_excluded_from_the_selection(model: GenLangSplatModel, tmp_path: Path) -> None:
    assert export(tmp_path / "x.ply", "left", "right", without=("left",)) == HALF - UNSEEN


@pytest.mark.parametrize(
    ("name", "text", "rest", "message"),
    [
        ("x.txt", (), False, r"ends in \.compressed\.ply, \.ply, \.spz or \.sog"),
        ("x.splat", (), False, r"ends in \.compressed\.ply"),
        ("there.ply", (), False, "exists.*--overwrite"),
        ("folder.ply", (), False, "is a folder"),
        ("there.ply/x.ply", (), False, "cannot be written"),
        ("x.ply", ("something else",), False, "No Gaussian is selected"),
        ("x.ply", (), True, "No Gaussian is left"),
    ],
)
def test_errors_are_reported_and_leave_no_file(
    name: str, text: tuple[str, ...], rest: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Export, "open", lambda self: language_scene())
    (tmp_path / "there.ply").write_text("kept")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(GenLangSplatError, match=message):
        export(tmp_path / name, *text, rest=rest, threshold=0.999)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.ply", "there.ply"]
    assert (tmp_path / "there.ply").read_text() == "kept"


def store_frame(folder: Path, frame: SceneFrame) -> StoredRun:
    """A stored run with the frame of its data."""
    content = {"transform": frame.transform.tolist(), "scale": frame.scale}
    (folder / "dataparser_transforms.json").write_text(json.dumps(content))
    return StoredRun(folder / "config.yml", folder / "step-000000001.ckpt")


def turned(far: float, scale: float) -> SceneFrame:
    """A frame that turns, centers and scales data at this distance from their origin."""
    rotation = torch.from_numpy(Rotation.random(random_state=3).as_matrix())
    center = torch.tensor([far, -0.3 * far, 12.0], dtype=torch.float64)
    return SceneFrame(torch.cat([rotation, -(rotation @ center)[:, None]], dim=1), scale)


@pytest.mark.parametrize(("degree", "frame_name"), [(0, "data"), (2, "capture")])
@pytest.mark.parametrize(("far", "scale"), [(2.0, 0.5), (500_000.0, 0.02)], ids=["near", "500 km"])
def test_the_frame_of_the_input_poses_comes_back_to_a_millimeter(
    degree: int,
    frame_name: FrameName,
    far: float,
    scale: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    model, frame = two_clouds(degree), turned(far, scale)
    stored = store_frame(tmp_path, frame)
    scene = LanguageScene(model, language_scene(model).datamanager, stored)
    monkeypatch.setattr(Export, "open", lambda self: scene)
    assert export(tmp_path / "data.ply", frame=frame_name) == NUM_GAUSSIANS
    offset = torch.from_numpy(read_offset(tmp_path / "data.ply"))
    written = read_ply(tmp_path / "data.ply")
    back = frame.inverse.matrix
    expected = model.means.detach().double() @ back[:3, :3].T + back[:3, 3]
    assert float((written.means.double() + offset - expected).norm(dim=1).max()) < 1e-3
    assert bool(offset.any()) == (far > 1_000) == ("offset" in caplog.text)
    # Moved to the run again, the file has the same picture.
    restored = move_gaussians(written, frame.relative_to(offset))
    original = model.splats(model.drawable())
    assert torch.allclose(restored.means, original.means, atol=1e-4)
    assert torch.allclose(restored.scales, original.scales, atol=1e-4)
    assert torch.allclose(draw(restored, model), draw(original, model), atol=5e-3)


def test_a_run_without_the_file_of_its_frame_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = two_clouds()
    stored = StoredRun(tmp_path / "config.yml", tmp_path / "step-000000001.ckpt")
    scene = LanguageScene(model, language_scene(model).datamanager, stored)
    monkeypatch.setattr(Export, "open", lambda self: scene)
    with pytest.raises(GenLangSplatError, match=r"no .*dataparser_transforms\.json.*omit --frame"):
        export(tmp_path / "data.ply", frame="capture")
    assert not (tmp_path / "data.ply").exists()
