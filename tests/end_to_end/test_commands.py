"""A user's workflow with the real commands: train, evaluate, query, render, export."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import mediapy
import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.config import gen_langsplat_lite
from genlangsplat_ns.installation.scene_needs import Photographs, estimate_needs
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.query_views import query_views
from genlangsplat_ns.scene.settings import CameraSettings
from genlangsplat_ns.scene_io.ply import read_ply
from tests.end_to_end.commands import gen_langsplat, run
from tests.scene_io.gaussian_fakes import same_bits

QUERY = ("query", "--load-config", "nowhere.yml", "--text")
SHORT = ("--vis", "tensorboard", "--max-num-iterations", "61", "--pipeline.model.warmup-length", "20")


SECONDS = "seconds.txt"
"""File with the elapsed seconds of the training."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def config(tiny_scene: Path, workspace: Path) -> Path:
    """config.yml of a short run of ns-train."""
    start = time.perf_counter()
    run("ns-train", "gen-langsplat-lite", "--data", tiny_scene, *SHORT, folder=workspace)
    (workspace / SECONDS).write_text(str(time.perf_counter() - start))
    found = list(workspace.glob("outputs/**/config.yml"))
    assert len(found) == 1
    return found[0]


# The road of a user, in processes of its own


def test_the_report_counts_the_time_of_the_whole_command(config: Path, workspace: Path) -> None:
    """In a short run, starting Python takes a large part; only the end of the process is not counted."""
    seconds = float((workspace / SECONDS).read_text())
    costs = json.loads((config.parent / "report.json").read_text())["costs"]
    stages = {name: cost["wall_seconds"] for name, cost in costs["stages"].items()}
    assert stages["startup"] > stages["checkpoints"]
    assert 0.8 * seconds < sum(stages.values()) <= seconds
    assert sum(stages.values()) == pytest.approx(costs["wall_seconds"], abs=0.01 * len(stages))


def test_ns_eval_reports_rgb_and_language_metrics(config: Path, workspace: Path) -> None:
    run("ns-eval", "--load-config", config, "--output-path", workspace / "metrics.json", folder=workspace)
    results = json.loads((workspace / "metrics.json").read_text())["results"]
    assert 5 < results["psnr"] < 60 and 0 < results["ssim"] <= 1
    assert -1 <= results["lang_cosine"] <= 1 and results["lang_l1"] >= 0
    assert 0 <= results["miou"] <= 1 and 0 <= results["localization"] <= 1


def test_query_writes_images_and_scores(config: Path, workspace: Path) -> None:
    output = workspace / "answers"
    run(
        *("gen-langsplat", "query", "--load-config", config, "--text", "a cat", "a rocket", "--output-dir", output),
        *("--mode", "rendered"),
        folder=workspace,
    )
    answer = json.loads((output / "query.json").read_text())
    assert answer["texts"] == ["a cat", "a rocket"]
    assert len(answer["results"]) == 2 * 10
    assert {result["split"] for result in answer["results"]} == {"train", "eval"}
    for result in answer["results"]:
        width, height = result["size"]
        overlay = np.asarray(Image.open(output / result["overlay"]))
        mask = np.asarray(Image.open(output / result["mask"]))
        assert overlay.shape == (height, width, 3) and mask.shape == (height, width)
        assert set(np.unique(mask)) <= {0, 255}
        assert 0 <= result["peak"][0] < width and 0 <= result["peak"][1] < height
        assert 0 <= result["score"] <= 1


@pytest.mark.slow
def test_ns_render_shows_the_language_outputs(config: Path, workspace: Path) -> None:
    run(
        *("ns-render", "dataset", "--load-config", config, "--output-path", workspace / "renders", "--split", "test"),
        *("--rendered-output-names", "relevancy_overlay", "latent_pca"),
        folder=workspace,
    )
    assert len(list((workspace / "renders").glob("**/*.jpg"))) == 2 * 2


@pytest.mark.slow
def test_ns_export_writes_a_splat_file(config: Path, workspace: Path) -> None:
    try:
        import open3d  # noqa: F401
    except ImportError as error:
        pytest.skip(f"ns-export imports open3d, which does not load here: {error}. apt-get install libusb-1.0-0 libgl1")
    run("ns-export", "gaussian-splat", "--load-config", config, "--output-dir", workspace / "export", folder=workspace)
    assert (workspace / "export" / "splat.ply").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ns-train", "gen-langsplat-lite", "--data", "nowhere"), "does not exist"),
        (("gen-langsplat", *QUERY, "a", "--output-dir", "o"), "no nowhere.yml"),
        (("gen-langsplat", "extract", "--data", "nowhere"), "The data folder nowhere does not exist."),
    ],
)
def test_programs_report_errors_without_a_traceback(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    output = run(*words, folder=tmp_path, expect=1)
    assert message in " ".join(output.split())
    assert output.count("Error:") == 1 and "Traceback" not in output
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "something was left behind"


# Further commands, in this process


def test_the_doctor_examines_this_machine_and_a_scene(tiny_scene: Path, tmp_path: Path) -> None:
    gen_langsplat("doctor", "--data", tiny_scene, "--json", tmp_path / "doctor.json")
    document = json.loads((tmp_path / "doctor.json").read_text())
    found = {item["name"]: item for item in document["findings"]}
    assert document["works"] and found["methods"]["state"] == "ok"
    assert found["auto: autoencoder"]["found"].startswith("conse-16")
    assert found["scene"]["found"].startswith("10 photographs, 0.01 megapixels")
    assert found["gen-langsplat-lite: disk"]["state"] in ("ok", "warning")
    stored = sum(path.stat().st_size for path in tiny_scene.glob("language_features/*/*"))
    needs = estimate_needs(
        Photographs(10, 10 * 128 * 96, 128), gen_langsplat_lite.config.pipeline.model, "watershed", 384, False
    )
    assert stored == pytest.approx(needs.disk["feature store"], rel=0.2)


def test_a_video_has_a_frame_for_every_camera(tiny_run: LanguageScene, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg: apt-get install ffmpeg")
    query, cameras = TextQuery(("a cat", "a rocket")), CameraSettings(split="eval", interpolate=3)
    query_views(tiny_run, query, tmp_path, cameras, video=True)
    answer = json.loads((tmp_path / "query.json").read_text())
    names = {result["overlay"] for result in answer["results"]}
    assert len(names) == 2
    for name in names:
        frames = mediapy.read_video(tmp_path / name)
        sizes = {tuple(result["size"]) for result in answer["results"] if result["overlay"] == name}
        assert sizes == {(frames.shape[2], frames.shape[1])}
        assert len(frames) == sum(result["overlay"] == name for result in answer["results"]) > 2


def test_query_along_a_path_between_views(tiny_run: LanguageScene, tmp_path: Path) -> None:
    words = "--text", "a cat; a rocket", "--split", "eval", "--interpolate", "3", "--output-dir", tmp_path
    gen_langsplat("query", "--load-config", tiny_run.stored.config_path, *words)
    answer = json.loads((tmp_path / "query.json").read_text())
    assert answer["mode"] == "gaussian" and [item["text"] for item in answer["selections"]] == ["a cat", "a rocket"]
    assert {result["split"] for result in answer["results"]} == {"interpolated"}
    assert len(answer["results"]) == 2 * 3 and len(list(tmp_path.glob("*-overlay.png"))) == 2 * 3
    assert all(len(result["peak_3d"]) == 3 for result in answer["results"])


def test_removed_gaussians_are_missing_from_the_new_run(tiny_run: LanguageScene, tmp_path: Path) -> None:
    run_of = "--load-config", tiny_run.stored.config_path
    choice = "--text", "a rocket", "--level", "auto", "--threshold", "0.3", "--no-clean-up"
    exported, others, left = (tmp_path / f"{name}.ply" for name in ("rocket", "others", "left"))
    gen_langsplat("export", *run_of, *choice, "--output", exported)
    gen_langsplat("export", *run_of, *choice, "--rest", "--output", others)
    gen_langsplat("remove", *run_of, *choice, "--output-dir", tmp_path / "without")
    (without,) = (tmp_path / "without").glob("**/config.yml")
    gen_langsplat("export", "--load-config", without, "--output", left)
    assert same_bits(read_ply(left), read_ply(others))
    assert len(read_ply(exported)) > 0
    scene = open_run(without)
    assert scene.render_rgb(scene.views("eval")[0]).shape == (96, 128, 3)


def test_describe_names_groups_by_a_vocabulary(tiny_run: LanguageScene, tmp_path: Path) -> None:
    vocabulary, output = tmp_path / "words.txt", tmp_path / "groups.json"
    vocabulary.write_text("a cat\na rocket\n\na cat\na wall\n")
    words = "--vocabulary", vocabulary, "--groups", "4", "--texts", "2", "--output", output
    gen_langsplat("describe", "--load-config", tiny_run.stored.config_path, *words)
    groups = json.loads(output.read_text())["groups"]
    assert 1 <= len(groups) <= 4
    assert all(len(group["texts"]) == 2 and group["gaussians"] > 0 for group in groups)
    assert {item["text"] for group in groups for item in group["texts"]} <= {"a cat", "a rocket", "a wall"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*QUERY, " ; ", "--output-dir", "o"), "no text to query"),
        ((*QUERY, "a", "--negatives", "a", "--output-dir", "o"), "cannot score above itself"),
        ((*QUERY, "a", "--camera-path", "p", "--interpolate", "3", "--output-dir", "o"), "give one of them"),
        (("export", "--load-config", "nowhere.yml", "--output", "x.txt"), "ends in .compressed.ply"),
        (("remove", "--load-config", "nowhere.yml", "--text", "a"), "no nowhere.yml"),
        (("describe", "--load-config", "nowhere.yml", "--vocabulary", "v"), "cannot be read"),
    ],
)
def test_errors_are_one_sentence(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    gen_langsplat(*words, expect=1)
    output = capsys.readouterr().out
    assert message in " ".join(output.split())
    assert output.count("Error:") == 1 and "Traceback" not in output
    assert not list(tmp_path.rglob("*")), "something was left behind"
