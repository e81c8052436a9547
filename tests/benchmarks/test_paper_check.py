"""The check of the paper's scenes: what is missing is named, nothing is done twice, and one failure stops no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import find_label_folder, read_label_set
from genlangsplat_ns.views.colmap_model import read_colmap
from tests.benchmarks.paper_results import evaluation, report

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "paper_check.py"

pytestmark = pytest.mark.usefixtures("benchmarks_importable")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-ins of a scene of each data set; tests must not modify them."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        from paper.stand_in import write_stand_in

        write_stand_in(folder, ["ramen", "bed"])
    return folder


@pytest.fixture
def check(benchmarks_importable: None) -> ModuleType:
    import paper_check

    return paper_check


# The stand-in


def test_the_stand_in_has_the_layout_of_the_data(data: Path) -> None:
    files = {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}
    assert {
        "lerf_ovs/ramen/images/frame_00006.jpg",
        "lerf_ovs/ramen/sparse/0/cameras.bin",
        "lerf_ovs/label/ramen/frame_00006.json",
        "lerf_ovs/label/ramen/frame_00006.jpg",
        "3d-ovs/bed/images/00.jpg",
        "3d-ovs/bed/sparse/0/points3D.bin",
        "3d-ovs/bed/segmentations/classes.txt",
        "3d-ovs/bed/segmentations/00/cat.png",
    } <= files


@pytest.mark.parametrize(("scene", "kind"), [("lerf_ovs/ramen", "lerf-ovs"), ("3d-ovs/bed", "3d-ovs")])
def test_the_readers_of_real_labels_read_the_stand_in(data: Path, scene: str, kind: str) -> None:
    labels = find_label_folder(data / scene)
    assert labels is not None
    found = read_label_set(labels)
    assert found.kind == kind and not found.skipped
    photographs = {path.stem for path in (data / scene / "images").iterdir()}
    assert set(found.views) < photographs
    assert all(view.truth(view.categories[0]).mask.any() for view in found.views.values())


@pytest.mark.parametrize("scene", ["lerf_ovs/ramen", "3d-ovs/bed"])
def test_the_reader_of_colmap_models_puts_the_points_before_the_cameras(data: Path, scene: str) -> None:
    settings = ColmapDataParserConfig(data=data / scene, colmap_path=Path("sparse/0"), downscale_factor=1)
    posed = read_colmap(settings)
    assert len(posed.photographs) == 8 and posed.seeds is not None
    points = posed.seeds.positions @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    for photograph in posed.photographs:
        pose = photograph.pose
        seen = (points - pose[:3, 3]) @ pose[:3, :3]
        # A camera looks along its negative z axis. Every point was seen by one, and most of them by all.
        assert (seen[:, 2] < 0).mean() > 0.9


# What is there and what is missing


def test_scenes_are_found_in_their_data_sets_and_others_are_named(data: Path) -> None:
    from paper.scenes import find_scenes

    scenes, problems = find_scenes([data], ["ramen", "teatime", "bed", "sofa"])
    ramen, bed = scenes
    assert (ramen.name, ramen.kind, ramen.photographs, ramen.labeled, ramen.longest) == ("ramen", "lerf-ovs", 8, 7, 247)
    assert (bed.kind, bed.labeled, bed.labels.name) == ("3d-ovs", 3, "segmentations")
    assert ramen.pairs == sum(len(view.categories) for view in read_label_set(ramen.labels).views.values())
    assert "no teatime/images" in problems["teatime"] and "lerf_ovs.zip" in problems["teatime"]
    assert "docs/3d-ovs.md" in problems["sofa"]


@pytest.mark.parametrize(
    ("break_scene", "message"),
    [
        (lambda scene: (scene / "sparse/0/cameras.bin").unlink(), "no cameras of COLMAP.*automatic_reconstructor"),
        (lambda scene: (scene / "images/00.jpg").unlink(), "lacks photographs that are labeled: 00"),
        (lambda scene: (scene / "images/01.jpg").write_bytes(b"<html>"), "01.jpg cannot be read"),
        (lambda scene: (scene / "segmentations").rename(scene / "masks-of-it"), "has no labels"),
    ],
)
def test_an_unusable_scene_is_named_before_anything_starts(
    data: Path, tmp_path: Path, break_scene: Callable[[Path], Any], message: str
) -> None:
    import shutil

    from paper.scenes import find_scenes

    shutil.copytree(data / "3d-ovs", tmp_path / "3d-ovs")
    break_scene(tmp_path / "3d-ovs/bed")
    scenes, problems = find_scenes([tmp_path / "3d-ovs"], ["bed"])
    assert scenes == []
    with pytest.raises(GenLangSplatError, match=message):
        raise GenLangSplatError(problems["bed"])


# Running


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The programs that are run, which write small results at once; those of the scene `fails` fail once."""
    from paper import work

    calls: list[tuple[str, list[str]]] = []

    def run(program: str, words: list[str], log: Path, state: Any) -> None:
        calls.append((program, words))
        if program == "ns-train":
            folder = Path(option(words, "--output-dir")) / option(words, "--experiment-name")
            folder = folder / "gen-langsplat" / option(words, "--timestamp")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yml").touch()
            (folder / "report.json").write_text(json.dumps(report()))
        else:
            folder = Path(option(words, "--output-dir"))
            folder.mkdir(parents=True)
            (folder / "evaluation.json").write_text(json.dumps(evaluation(0.5, 0.25, 10)))

    monkeypatch.setattr(work, "run_program", run)
    return calls


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Weights that are missing; what happens to them."""
    import paper.weights

    events: list[str] = []
    needed = SimpleNamespace(
        gigabytes=3.16, describe=lambda: "SAM vit_h: missing", fetch=lambda: events.append("fetched")
    )
    monkeypatch.setattr(paper.weights, "needed_weights", lambda mirror: needed)
    return events


def run_check(check: ModuleType, data: Path, output: Path, *words: str) -> int:
    options = check.read_options(["--data", str(data), "--output-dir", str(output), *words])
    output.mkdir(exist_ok=True)
    return int(check.check_scenes(options))


def test_all_scenes_are_trained_and_evaluated_once(
    check: ModuleType, data: Path, tmp_path: Path, programs: list, weights: list[str], capsys: pytest.CaptureFixture
) -> None:
    words = ("--only", "ramen", "bed", "--yes")
    assert run_check(check, data, tmp_path / "out", *words) == 0
    assert [program for program, _ in programs] == ["ns-train", "gen-langsplat"] * 2
    training, scoring = programs[0][1], programs[1][1]
    assert training[0] == "gen-langsplat" and training[-5:] == [
        *("colmap", "--eval-mode", "all", "--downscale-factor", "1")
    ]
    assert option(training, "--pipeline.datamanager.masks") == "sam"
    assert option(training, "--pipeline.datamanager.encoder") == "openclip"
    assert option(training, "--max-num-iterations") == "30001"
    assert option(scoring, "--decoder") == "both" and option(scoring, "--labels").endswith("label/ramen")
    said = capsys.readouterr().out
    assert said.index("SAM vit_h: missing") < said.index("In all about") < said.index("ramen: training")
    document = json.loads((tmp_path / "out/paper-check.json").read_text())
    assert [row["scene"] for row in document["costs"]] == ["ramen", "bed"] and weights == ["fetched"]

    programs.clear()
    assert run_check(check, data, tmp_path / "out", *words) == 0
    assert programs == []


def test_a_missing_scene_is_said_and_the_others_run(
    check: ModuleType, data: Path, tmp_path: Path, programs: list, weights: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert run_check(check, data, tmp_path / "out", "--only", "ramen", "teatime", "--yes") == 1
    assert len(programs) == 2
    said = capsys.readouterr().out
    assert said.index("teatime will be left out. There is no teatime/images") < said.index("ramen: training")
    assert "1 of 4 scenes" in (tmp_path / "out/paper-check.md").read_text()


def test_a_failing_scene_is_reported_the_rest_runs_and_the_next_call_repeats_only_that_scene(
    check: ModuleType,
    data: Path,
    tmp_path: Path,
    programs: list,
    weights: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    from paper import work

    works = work.run_program

    def fails(program: str, words: list[str], log: Path, state: Any) -> None:
        if "ramen" in words:
            raise GenLangSplatError("the card ran out of memory")
        works(program, words, log, state)

    monkeypatch.setattr(work, "run_program", fails)
    words = ("--only", "ramen", "bed", "--yes")
    assert run_check(check, data, tmp_path / "out", *words) == 1
    assert "ramen: failed. the card ran out of memory" in capsys.readouterr().out
    state = json.loads((tmp_path / "out/state.json").read_text())["scenes"]
    assert (state["ramen"]["progress"], state["bed"]["progress"]) == ("waiting", "done")
    assert state["ramen"]["problem"] == "the card ran out of memory"

    monkeypatch.setattr(work, "run_program", works)
    programs.clear()
    assert run_check(check, data, tmp_path / "out", *words) == 0
    assert [Path(option(words, "--output-dir")).name for _, words in programs] == ["runs", "ramen"]
    assert json.loads((tmp_path / "out/state.json").read_text())["scenes"]["ramen"]["problem"] == ""


def test_an_interrupted_training_continues_from_its_checkpoint(
    check: ModuleType, data: Path, tmp_path: Path, programs: list, weights: list[str]
) -> None:
    checkpoints = tmp_path / "out/runs/bed/gen-langsplat/paper-check/nerfstudio_models"
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-000001999.ckpt").touch()
    run_check(check, data, tmp_path / "out", "--only", "bed", "--yes")
    training = programs[0][1]
    assert option(training, "--load-dir") == str(checkpoints)
    assert training.index("--load-dir") < training.index("colmap")


def test_a_training_that_was_stopped_after_its_last_checkpoint_is_evaluated(
    check: ModuleType, data: Path, tmp_path: Path, programs: list, weights: list[str]
) -> None:
    run = tmp_path / "out/runs/bed/gen-langsplat/paper-check"
    (run / "nerfstudio_models").mkdir(parents=True)
    (run / "nerfstudio_models/step-000030000.ckpt").touch()
    (run / "config.yml").touch()
    assert run_check(check, data, tmp_path / "out", "--only", "bed", "--yes") == 0
    assert [program for program, _ in programs] == ["gen-langsplat"]
    assert json.loads((tmp_path / "out/paper-check.json").read_text())["costs"] == []


def test_an_interrupted_evaluation_does_not_train_again(
    check: ModuleType, data: Path, tmp_path: Path, programs: list, weights: list[str]
) -> None:
    run_check(check, data, tmp_path / "out", "--only", "bed", "--yes")
    (tmp_path / "out/evaluations/bed/evaluation.json").unlink()
    (tmp_path / "out/evaluations/bed").rmdir()
    programs.clear()
    run_check(check, data, tmp_path / "out", "--only", "bed", "--yes")
    assert [program for program, _ in programs] == ["gen-langsplat"]


def test_other_settings_need_another_folder(
    check: ModuleType, data: Path, tmp_path: Path, programs: list, weights: list[str]
) -> None:
    run_check(check, data, tmp_path / "out", "--only", "bed", "--yes")
    (tmp_path / "mlp.safetensors").touch()
    with pytest.raises(GenLangSplatError, match=r"bed was begun.*now asked for with --pipeline\.model\.autoencoder"):
        run_check(
            check, data, tmp_path / "out", "--only", "bed", "--autoencoder", str(tmp_path / "mlp.safetensors"), "--yes"
        )


def test_nothing_starts_before_the_estimate_is_accepted(
    check: ModuleType,
    data: Path,
    tmp_path: Path,
    programs: list,
    weights: list[str],
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run_check(check, data, tmp_path / "out", "--only", "ramen", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "hours and" in said and "3.16 GB are downloaded" in said and "Assumed:" in said
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(GenLangSplatError, match="Add --yes"):
        run_check(check, data, tmp_path / "out", "--only", "ramen")
    assert programs == [] and weights == []


def test_without_data_the_command_says_what_it_needs(check: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="DATA="):
        check.read_options(["--output-dir", str(tmp_path)])
    with pytest.raises(GenLangSplatError, match="nowhere does not exist"):
        run_check(check, Path("nowhere"), tmp_path / "out", "--yes")


# State and processes


def test_two_checks_cannot_share_an_output_folder(tmp_path: Path) -> None:
    from paper.state import only_one

    with only_one(tmp_path), pytest.raises(GenLangSplatError, match="Another check is running"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    from paper.state import CheckState

    (tmp_path / "state.json").write_text('{"scenes": {"bed": {"progress"')
    with pytest.raises(GenLangSplatError, match=r"state\.json is damaged.*Remove it"):
        CheckState.read(tmp_path)


def test_a_process_of_a_killed_check_is_waited_for(tmp_path: Path) -> None:
    import psutil

    from paper.state import CheckState

    state = CheckState(tmp_path / "state.json")
    state.process = {"pid": os.getpid(), "created": psutil.Process().create_time()}
    state.save()
    with pytest.raises(GenLangSplatError, match=f"process {os.getpid()} of an earlier check still works"):
        CheckState.read(tmp_path).check_no_process()
    # Another process that got the same number.
    state.process["created"] -= 1000
    state.check_no_process()


PROGRAM = """
import sys, time
print("working", flush=True)
if sys.argv[1] == "sleeps":
    time.sleep(60)
if sys.argv[1] == "fails":
    sys.exit("Error: the card is on fire")
"""


@pytest.fixture
def stand_in_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that takes the place of ns-train; returns the log of its runs."""
    from paper import work

    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/command.py").write_text(PROGRAM)
    monkeypatch.setattr(work, "BENCHMARKS", tmp_path)
    return tmp_path / "log"


def test_a_failed_program_is_reported_by_its_last_words(stand_in_program: Path, tmp_path: Path) -> None:
    from paper.state import CheckState
    from paper.work import run_program

    state = CheckState(tmp_path / "state.json")
    stand_in_program.write_text("Error: of an earlier run\n")
    with pytest.raises(GenLangSplatError, match=r"^the card is on fire \(fails ended with the status 1; log: "):
        run_program("fails", [], stand_in_program, state)
    run_program("works", ["--flag"], stand_in_program, state)
    assert stand_in_program.read_text().splitlines()[-2:] == ["# works --flag", "working"]


def test_an_interrupted_check_stops_its_program(stand_in_program: Path, tmp_path: Path) -> None:
    import psutil

    from paper.state import CheckState
    from paper.work import run_program

    state = CheckState(tmp_path / "state.json")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_program("sleeps", [], stand_in_program, state)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert state.process is not None and not psutil.pid_exists(int(state.process["pid"]))


@pytest.mark.slow
def test_a_rehearsal_is_interrupted_and_continued(tmp_path: Path) -> None:
    """The real commands on the stand-in of one scene, with random weights."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "--rehearse", "--yes", "--only", "bed"]
    command += ["--output-dir", str(tmp_path)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 600
    while not list((tmp_path / "runs").rglob("step-*.ckpt")):
        assert process.poll() is None, "it ended before the first checkpoint"
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail("there is no checkpoint after ten minutes")
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert json.loads((tmp_path / "state.json").read_text())["process"] is None

    assert subprocess.run(command, check=False).returncode == 0
    document = json.loads((tmp_path / "paper-check.json").read_text())
    measured = [row for row in document["rows"] if row["by"] == "measured here"]
    assert {row["decoder"] for row in measured} == {"memory", "autoencoder"}
    assert {row["protocol"] for row in measured} == {"langsplat-3dovs", "threshold", "gaussian-selection"}
    (costs,) = document["costs"]
    assert costs["scene"] == "bed" and costs["regions"] > 0 and costs["autoencoder"] == "projection-16"
    log = (tmp_path / "logs/bed-training.log").read_text()
    assert log.count("# ns-train") == 2 and log.count("--load-dir") == 1
