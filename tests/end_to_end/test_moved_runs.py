"""Finished runs open after a move: the run or its data lie elsewhere, or config.yml is from another system."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.scripts.render import RenderCameraPath
from nerfstudio.scripts.viewer import run_viewer
from nerfstudio.viewer.viewer import Viewer

from genlangsplat_ns.cli import main
from genlangsplat_ns.commands.compress import Compress
from genlangsplat_ns.commands.describe import Describe
from genlangsplat_ns.commands.export import Export
from genlangsplat_ns.commands.query import Query
from genlangsplat_ns.commands.remove import Remove
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import QuerySettings
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.init_from import open_geometry
from genlangsplat_ns.scene.settings import CameraSettings
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from genlangsplat_ns.scene_io.ply import read_ply
from genlangsplat_ns.scene_io.runs import read_config
from tests.end_to_end.test_finished_runs import RUNS
from tests.scene.test_cameras import path_file

TEXT = "a fox"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working directory."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def run_at(folder: Path, *data: Path | str, kind: str = "lift") -> Path:
    """config.yml of a copy of a finished run in any folder, with the parts of the data path on another machine."""
    shutil.copytree(RUNS / kind, folder)
    path = folder / "config.yml"

    def parts(match: re.Match[str]) -> str:
        return "".join(f"{match[1]}- {json.dumps(str(part))}\n" for part in data)

    path.write_text(re.sub(r"^( *)- SCENE\n", parts, path.read_text(), flags=re.MULTILINE))
    return path


def as_command(monkeypatch: pytest.MonkeyPatch, name: str, config_path: Path) -> None:
    """Makes this process look like a command of nerfstudio."""
    monkeypatch.setattr("sys.argv", [f"/usr/bin/{name}", "--load-config", str(config_path)])


@pytest.mark.parametrize("folder", ["best", "a/b/c/d/best", "other/fox/gen-langsplat-lite/now"])
def test_a_renamed_run_opens_beside_its_checkpoints(project: Path, tiny_scene: Path, folder: str) -> None:
    scene = open_run(run_at(project / folder, tiny_scene))
    assert scene.stored is not None and scene.stored.checkpoint.parent == project / folder / "nerfstudio_models"
    assert len(scene.views()) == 10


@pytest.mark.parametrize("equals", [True, False])
def test_ns_eval_opens_a_renamed_run(
    project: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch, equals: bool
) -> None:
    path = run_at(project / "best", tiny_scene)
    # A run of the old name is still there, but has nothing to do with the one on the command line.
    (project / "outputs/lift/gen-langsplat-lite/run/nerfstudio_models").mkdir(parents=True)
    as_command(monkeypatch, "ns-eval", path)
    if equals:
        monkeypatch.setattr("sys.argv", ["ns-eval", f"--load-config={path}"])
    ComputePSNR(load_config=path, output_path=Path("metrics.json")).main()
    found = json.loads((project / "metrics.json").read_text())
    assert found["checkpoint"].startswith(str(project / "best")) and found["results"]["psnr"] > 5
    assert (project / "best" / "language_metrics.json").is_file()


def test_the_step_that_a_run_was_resumed_from_is_not_opened(project: Path, tiny_scene: Path) -> None:
    path = run_at(project / "best", tiny_scene)
    path.write_text(path.read_text().replace("load_step: null", "load_step: 7"))
    (path.parent / "nerfstudio_models" / ".DS_Store").touch()
    assert open_run(path).stored is not None


@pytest.mark.parametrize("command", [None, "ns-eval"])
def test_absent_checkpoints_are_named(
    project: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch, command: str | None
) -> None:
    path = run_at(project / "best", tiny_scene)
    shutil.rmtree(project / "best" / "nerfstudio_models")
    with pytest.raises(GenLangSplatError, match=r"best/nerfstudio_models has no step-\*\.ckpt"):
        if command is None:
            open_run(path)
        else:
            as_command(monkeypatch, command, path)
            ComputePSNR(load_config=path).main()


@pytest.mark.parametrize(("kind", "data"), [("WindowsPath", ["C:\\", "data"]), ("_local.WindowsPath", ["C:\\data"])])
def test_a_run_trained_on_windows_opens_with_the_folder_of_its_data(
    project: Path, tiny_scene: Path, kind: str, data: list[str]
) -> None:
    path = run_at(project / "best", *data)
    path.write_text(path.read_text().replace("pathlib.PosixPath", f"pathlib.{kind}"))
    assert len(open_run(path, data=tiny_scene).views()) == 10
    with pytest.raises(GenLangSplatError, match=r"do not exist at C:/data\..*--data FOLDER.*ln -s"):
        open_run(path)
    assert len(open_geometry(path).gaussians) > 0


def test_ns_eval_opens_a_run_trained_on_windows(
    project: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_scene, project / "data")
    path = run_at(project / "best", "data")
    path.write_text(path.read_text().replace("pathlib.PosixPath", "pathlib.WindowsPath"))
    as_command(monkeypatch, "ns-eval", path)
    ComputePSNR(load_config=path, output_path=Path("metrics.json")).main()
    assert json.loads(Path("metrics.json").read_text())["results"]["psnr"] > 5


def test_data_around_the_run_are_found_and_the_log_says_so(
    project: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_scene, project / "data" / "fox")
    path = run_at(project / "models" / "best", "data/fox")
    (project.parent / "elsewhere").mkdir()
    monkeypatch.chdir(project.parent / "elsewhere")
    # The console's handler would keep the log from the fixture.
    monkeypatch.setattr("genlangsplat_ns.trainer.show", lambda: None)
    with caplog.at_level("INFO"):
        assert len(open_run(path).views()) == 10
    assert f"data/fox, are read from {project / 'data' / 'fox'}" in caplog.text


def test_absent_data_are_named_with_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_at(project / "best", "/nowhere/my photos")
    as_command(monkeypatch, "ns-eval", path)
    advice = r"at /nowhere/my photos\..*--data FOLDER.*mkdir -p /nowhere && ln -s \S+ '/nowhere/my photos'"
    with pytest.raises(GenLangSplatError, match=advice):
        ComputePSNR(load_config=path).main()


def test_the_advised_link_works(project: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_at(project / "best", project / "old" / "place")
    (project / "old").mkdir()
    (project / "old" / "place").symlink_to(tiny_scene)
    as_command(monkeypatch, "ns-eval", path)
    ComputePSNR(load_config=path, output_path=Path("metrics.json")).main()


@pytest.mark.parametrize("words", [("query", "--text", TEXT, "--split", "eval", "--output-dir", "out"), ("lift",)])
def test_commands_take_the_folder_of_moved_data(
    project: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    path = run_at(project / "best", "/nowhere")
    command = ["gen-langsplat", words[0], "--load-config", str(path), *words[1:]]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    monkeypatch.setattr("sys.argv", [*command, "--data", str(tiny_scene)])
    main()


def test_a_copy_of_a_run_remembers_the_folder_of_moved_data(project: Path, tiny_scene: Path) -> None:
    path = run_at(project / "best", "/nowhere")
    Compress(load_config=path, to="fp16", text=(TEXT,), data=tiny_scene)()
    assert read_config(project / "best-fp16" / "config.yml").pipeline.datamanager.data == tiny_scene
    assert len(open_run(project / "best-fp16" / "config.yml").views()) == 10


# Without photographs


@pytest.fixture(params=["folder", "picture"])
def absent(request: pytest.FixtureRequest, project: Path, tiny_scene: Path) -> Path:
    """config.yml of a run whose data folder, or one photograph in it, is gone."""
    if request.param == "folder":
        return run_at(project / "best", "/nowhere")
    data = Path(shutil.copytree(tiny_scene, project / "data", ignore=shutil.ignore_patterns("language_features")))
    (data / "images" / "0001.png").unlink()
    return run_at(project / "best", data)


def test_a_run_without_photographs_has_the_same_gaussians_and_answers(
    absent: Path, project: Path, tiny_scene: Path
) -> None:
    with pytest.raises(GenLangSplatError, match=r"/nowhere|0001\.png"):
        open_run(absent)
    scene, whole = open_run(absent, photographs=False), open_run(run_at(project / "whole", tiny_scene))
    assert scene.views() == [] and len(whole.views()) == 10
    torch.testing.assert_close(scene.field.latents, whole.field.latents, rtol=0, atol=0)
    answer, expected = (one.field.find(one.embed(TextQuery((TEXT,))))[0].relevancy for one in (scene, whole))
    assert expected.std() > 0.01 and torch.equal(answer, expected)
    frames = [one.datamanager.train_dataparser_outputs for one in (scene, whole)]
    torch.testing.assert_close(frames[0].dataparser_transform, frames[1].dataparser_transform)
    assert frames[0].dataparser_scale == pytest.approx(frames[1].dataparser_scale)


def test_commands_that_need_no_photographs_do_without(
    absent: Path, project: Path, capsys: pytest.CaptureFixture
) -> None:
    Export(load_config=absent, output=project / "all.ply")()
    Describe(load_config=absent, groups=2, output=project / "groups.json")()
    Remove(load_config=absent, text=("a clock",), query=QuerySettings(threshold=0.3), output_dir=project / "without")()
    Compress(load_config=absent, to="int8")()
    assert len(read_ply(project / "all.ply")) > 0 and (project / "groups.json").is_file()
    assert list((project / "without").glob("**/step-*.ckpt"))
    assert latest_checkpoint(project / "best-int8" / "nerfstudio_models") is not None
    printed = " ".join(capsys.readouterr().out.split())
    assert "cosine of latents" in printed and "masks and metrics of held-out views were not compared" in printed


def test_a_mistyped_folder_of_data_is_named(project: Path, tiny_scene: Path) -> None:
    with pytest.raises(GenLangSplatError, match="data folder typo does not exist"):
        open_run(run_at(project / "best", tiny_scene), data=Path("typo"))


def test_a_run_written_elsewhere_finds_the_data_of_the_first(
    project: Path, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run finds its data by a relative path, which leads nowhere from the other folder."""
    shutil.copytree(tiny_scene, project / "data")
    path = run_at(project / "runs" / "best", "data")
    monkeypatch.chdir(tmp_path)
    query = QuerySettings(threshold=0.3)
    Remove(load_config=path, text=("a clock",), query=query, output_dir=tmp_path / "other")()
    (written,) = (tmp_path / "other").glob("**/config.yml")
    assert len(open_run(written).views()) == 10


def test_a_camera_path_is_queried_without_photographs(absent: Path, project: Path) -> None:
    cameras = CameraSettings(camera_path=path_file(project))
    Query(load_config=absent, text=(TEXT,), output_dir=project / "answers", cameras=cameras)()
    assert len(json.loads((project / "answers" / "query.json").read_text())["results"]) == 2
    with pytest.raises(GenLangSplatError, match=r"/nowhere|0001\.png"):
        Query(load_config=absent, text=(TEXT,), output_dir=project / "answers")()


def test_ns_render_renders_a_path_without_photographs(
    absent: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_command(monkeypatch, "ns-render", absent)
    monkeypatch.setattr("nerfstudio.utils.install_checks.check_ffmpeg_installed", lambda: None)
    path = path_file(project)
    RenderCameraPath(
        load_config=absent, camera_path_filename=path, output_format="images", output_path=project / "frames.mp4"
    ).main()
    assert len(list((project / "frames").iterdir())) == 2


def test_the_viewer_comes_up_without_photographs(absent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Stopped(Exception):
        """Ends the viewer's endless loop."""

    def stop(seconds: float) -> None:
        raise Stopped

    init_scene = Viewer.init_scene

    def observe(viewer: Viewer, train_dataset: Any, *args: Any, **kwargs: Any) -> None:
        init_scene(viewer, train_dataset, *args, **kwargs)
        shown.append((viewer, len(train_dataset)))

    monkeypatch.setattr(Viewer, "init_scene", observe)
    monkeypatch.setattr(run_viewer.time, "sleep", stop)
    as_command(monkeypatch, "ns-viewer", absent)
    with pytest.raises(Stopped):
        run_viewer.RunViewer(load_config=absent).main()
    ((viewer, count),) = shown
    viewer.viser_server.stop()
    assert count == 0 and viewer.camera_handles == {}
    assert viewer.datapath == absent.parent.resolve() and viewer.log_filename.parent == absent.parent.resolve()


@pytest.mark.parametrize("setting", ["camera_optimizer", "bilateral_grid"])
def test_parameters_of_the_views_have_the_size_of_the_checkpoint(project: Path, tiny_scene: Path, setting: str) -> None:
    path = run_at(project / "best", "/nowhere")
    config: Any = yaml.load(path.read_text(), Loader=yaml.Loader)
    checkpoint = latest_checkpoint(project / "best" / "nerfstudio_models")
    assert checkpoint is not None
    state = torch.load(checkpoint, weights_only=True)
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 6))).float()
    if setting == "camera_optimizer":
        config.pipeline.model.camera_optimizer.mode = "SO3xR3"
        state["pipeline"]["_model.camera_optimizer.pose_adjustment"] = values
    else:
        config.pipeline.model.use_bilateral_grid = True
        state["pipeline"]["_model.bil_grids.grids"] = torch.zeros(8, 12, 8, 16, 16)
        state["pipeline"]["_model.bil_grids.rgb2gray_weight"] = torch.tensor([[0.299, 0.587, 0.114]])
    torch.save(state, checkpoint)
    path.write_text(yaml.dump(config))
    model = open_run(path, photographs=False).model
    if setting == "camera_optimizer":
        torch.testing.assert_close(model.camera_optimizer.pose_adjustment.data, values)
    else:
        assert model.bil_grids.grids.shape[0] == 8
    for name in ("_model.camera_optimizer.pose_adjustment", "_model.bil_grids.grids"):
        if name in state["pipeline"]:
            state["pipeline"][name] = state["pipeline"][name][:5]
    torch.save(state, checkpoint)
    with pytest.raises(GenLangSplatError, match=r"of 5 training views, but the data have 8"):
        open_run(path, data=tiny_scene)
