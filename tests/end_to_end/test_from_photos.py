"""`gen-langsplat from-photos` with a stand-in for COLMAP: what it prints, starts and refuses."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from genlangsplat_ns.commands import query
from genlangsplat_ns.photographs import scene
from genlangsplat_ns.photographs.lock import only_process
from tests.end_to_end.commands import gen_langsplat
from tests.photographs.fakes import FakeSolver, write_photographs
from tests.views.scene_files import colmap_scene

NAMES = [f"{number}.jpg" for number in range(5)]


@pytest.fixture(autouse=True)
def no_pycolmap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "Colmap", FakeSolver.fresh(lost=frozenset({"3.jpg"})))
    monkeypatch.setattr(scene, "import_pycolmap", lambda: None)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands of trainings, which leave a finished run."""
    commands = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess:
        commands.append(words)
        values = dict(pairwise(words))
        folder = Path(values["--output-dir"]) / values["--experiment-name"] / words[3] / values["--timestamp"]
        folder.mkdir(parents=True)
        (folder / "report.json").touch()
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Settings of queries."""
    queries = []

    class Recorder:
        def __init__(self, **settings: Any) -> None:
            queries.append(settings)

        def __call__(self) -> None:
            return None

    monkeypatch.setattr(query, "Query", Recorder)
    return queries


def test_what_became_of_the_photographs_is_printed_with_the_next_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "my.photographs", NAMES)
    gen_langsplat("from-photos", tmp_path / "my.photographs", "--method", "gen-langsplat-lite")
    printed = capsys.readouterr().out
    assert "3.jpg" in printed and "too few matches" not in printed and "fit no position" in printed
    assert "0.50 pixels" in printed
    made = tmp_path / "my.photographs-scene"
    assert f"ns-train gen-langsplat-lite --data {made}" in printed
    assert f"gen-langsplat query --load-config {made}/runs/gen-langsplat-lite/" in printed


def test_training_and_texts_follow(
    tmp_path: Path, trained: list[list[str]], asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "photographs", NAMES)
    words = ("from-photos", tmp_path / "photographs", "--output-dir", tmp_path / "scene", "--method", "gen-langsplat")
    gen_langsplat(*words, "--train", "--text", "a fox; a frame")
    assert [command[:6] for command in trained] == [
        [sys.executable, "-m", "nerfstudio.scripts.train", "gen-langsplat", "--data", str(tmp_path / "scene")]
    ]
    assert asked[0]["text"] == ("a fox; a frame",) and asked[0]["output_dir"] == tmp_path / "scene/answers"
    assert (asked[0]["load_config"].parent / "report.json").is_file()
    # A second call trains no more.
    gen_langsplat(*words, "--train")
    assert len(trained) == 1 and "is complete" in capsys.readouterr().out


def test_a_folder_that_has_cameras_is_only_trained(
    tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    colmap_scene(tmp_path / "posed")
    out = tmp_path / "out"
    words = ("from-photos", tmp_path / "posed", "--output-dir", out, "--method", "gen-langsplat-lite", "--train")
    gen_langsplat(*words, "--download-weights")
    assert "--pipeline.datamanager.download-weights True" in " ".join(trained[0])
    assert "has cameras already" in capsys.readouterr().out
    assert trained[0][5] == str(tmp_path / "posed") and (out / "runs/gen-langsplat-lite/existing").is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--text", "a fox"), "Texts are answered after a training"),
        (("--text", " ; ", "--train"), "texts that are not blank"),
        (("--max-image-side", "10"), "expected at least 200"),
        (("--max-features", "0"), "--max-features is 0; expected at least 100"),
        (("--masks", "nowhere"), "The folder of masks nowhere does not exist"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_any_work(
    tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "photographs", NAMES)
    gen_langsplat("from-photos", tmp_path / "photographs", *words, expect=1)
    assert message in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


def test_a_second_process_with_the_same_folder_is_refused(
    tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "photographs", NAMES)
    words = ("from-photos", tmp_path / "photographs", "--output-dir", tmp_path / "scene", "--train")
    with only_process(tmp_path / "scene"):
        gen_langsplat(*words, expect=1)
        assert "Another process is working on the scene in" in capsys.readouterr().out
        assert [path.name for path in (tmp_path / "scene").iterdir()] == [".lock"] and trained == []
    gen_langsplat(*words)
    assert len(trained) == 1


def test_a_training_of_existing_cameras_is_locked_too(
    tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    colmap_scene(tmp_path / "garden", names=NAMES)
    with only_process(tmp_path / "garden-scene"):
        gen_langsplat("from-photos", tmp_path / "garden", "--train", expect=1)
        gen_langsplat("from-photos", tmp_path / "garden")
    assert trained == [] and "Train with:" in capsys.readouterr().out


def test_a_refused_folder_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    gen_langsplat("from-photos", tmp_path / "empty", "--output-dir", tmp_path / "scene", expect=1)
    assert not (tmp_path / "scene").exists()
    write_photographs(tmp_path / "photographs", NAMES)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").touch()
    gen_langsplat("from-photos", tmp_path / "photographs", "--output-dir", tmp_path / "notes", expect=1)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["a.txt"]
