"""From a folder or video to a scene: stages that are done are not repeated, and changes are noticed."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.scene import make_scene
from genlangsplat_ns.photographs.settings import PhotographSettings
from genlangsplat_ns.views.model_folders import has_cameras
from tests.photographs.fakes import FakeSolver, write_photographs

NAMES = [f"{number}.jpg" for number in range(5)]
ALL_PAIRS = 10


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_photographs(tmp_path / "photographs", NAMES)
    return tmp_path / "photographs"


@pytest.fixture
def solver() -> type[FakeSolver]:
    return FakeSolver.fresh()


def totals(solver: type[FakeSolver]) -> dict[str, int]:
    """How many photographs or pairs each stage was asked for."""
    stages = ("extract", "match", "solve")
    return {stage: sum(count for name, count in solver.asked if name == stage) for stage in stages}


def frames(scene: Path) -> list[str]:
    return [frame["file_path"] for frame in json.loads((scene / "transforms.json").read_text())["frames"]]


def test_a_folder_becomes_a_scene(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    outcome, _ = make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    assert (outcome.photographs, outcome.placed) == (5, 5)
    assert frames(tmp_path / "scene") == [f"images/{name}" for name in NAMES]
    assert totals(solver) == {"extract": 5, "match": ALL_PAIRS, "solve": 5}


def test_a_second_call_does_nothing_again(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    first = make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    solver.asked.clear()
    assert make_scene(source, tmp_path / "scene", PhotographSettings(), solver) == first
    assert solver.asked == []


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("extract", {"extract": 5, "match": ALL_PAIRS, "solve": 5}),
        ("match", {"extract": 0, "match": ALL_PAIRS, "solve": 5}),
        ("solve", {"extract": 0, "match": 0, "solve": 5}),
    ],
)
def test_an_interrupted_call_is_continued(source: Path, tmp_path: Path, stage: str, left: dict[str, int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_scene(source, tmp_path / "scene", PhotographSettings(), FakeSolver.fresh(interrupt=stage))
    assert not (tmp_path / "scene/transforms.json").exists()
    solver = FakeSolver.fresh()
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    assert totals(solver) == left


def test_an_interrupted_call_leaves_no_cameras_of_an_earlier_one(
    source: Path, tmp_path: Path, solver: type[FakeSolver]
) -> None:
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    model = tmp_path / "scene/colmap/sparse/0"
    model.mkdir(parents=True)
    (model / "cameras.bin").touch()
    assert has_cameras(tmp_path / "scene")
    (source / "2.jpg").unlink()
    with pytest.raises(KeyboardInterrupt):
        make_scene(source, tmp_path / "scene", PhotographSettings(), FakeSolver.fresh(interrupt="solve"))
    assert not has_cameras(tmp_path / "scene")


def test_what_a_killed_process_left_is_removed(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    work = tmp_path / "scene/colmap"
    kept = sorted(work.iterdir())
    (work / ".frames-0123abcd").mkdir()
    (work / ".frames-0123abcd/000001.jpg").touch()
    (work / ".state-0123abcd.json").touch()
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    assert sorted(work.iterdir()) == kept


def test_a_damaged_outcome_is_made_again(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    first = make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    (tmp_path / "scene/colmap/outcome.json").write_text("{")
    assert make_scene(source, tmp_path / "scene", PhotographSettings(), solver) == first


def test_added_photographs_alone_are_extracted_and_matched(
    source: Path, tmp_path: Path, solver: type[FakeSolver], caplog: pytest.LogCaptureFixture
) -> None:
    first = make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    solver.asked.clear()
    write_photographs(tmp_path / "more", [*NAMES, "new.jpg"])
    shutil.copy(tmp_path / "more/new.jpg", source)
    with caplog.at_level(logging.INFO):
        second = make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    assert totals(solver) == {"extract": 1, "match": 5, "solve": 6}
    assert "1 photographs were added" in caplog.text
    # Runs of other cameras have other names.
    assert first[1] != second[1]


def test_removed_photographs_leave_the_scene(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    solver.asked.clear()
    (source / "2.jpg").unlink()
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    assert totals(solver) == {"extract": 0, "match": 0, "solve": 4}
    assert "images/2.jpg" not in frames(tmp_path / "scene")


@pytest.mark.parametrize("change", ["photograph", "settings"])
def test_changed_photographs_or_settings_start_anew(
    source: Path, tmp_path: Path, solver: type[FakeSolver], change: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    solver.asked.clear()
    settings = PhotographSettings()
    if change == "settings":
        settings = PhotographSettings(lens="opencv")
    else:
        write_photographs(tmp_path / "more", [*NAMES, "new.jpg"])
        shutil.copy(tmp_path / "more/new.jpg", source / "2.jpg")
    with caplog.at_level(logging.INFO):
        make_scene(source, tmp_path / "scene", settings, solver)
    assert totals(solver) == {"extract": 5, "match": ALL_PAIRS, "solve": 5}
    assert "have changed, so features are extracted again" in caplog.text


def test_other_pairs_are_added(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    write_photographs(source, [f"{number}.jpg" for number in range(60)])
    make_scene(source, tmp_path / "scene", PhotographSettings(matching="sequential"), solver)
    every = 60 * 59 // 2
    assert totals(solver)["match"] < every
    make_scene(source, tmp_path / "scene", PhotographSettings(matching="exhaustive"), solver)
    assert totals(solver) == {"extract": 60, "match": every, "solve": 120}


def test_photographs_without_a_camera_are_not_in_the_scene(source: Path, tmp_path: Path) -> None:
    solver = FakeSolver.fresh(lost=frozenset({"3.jpg"}))
    outcome, _ = make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    assert [item.name for item in outcome.unplaced] == ["3.jpg"]
    assert "images/3.jpg" not in frames(tmp_path / "scene")


def test_masks_are_listed(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    write_photographs(source / "masks", ["1.png"])
    Image.new("L", (48, 36)).save(source / "masks/1.png")
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    listed = json.loads((tmp_path / "scene/transforms.json").read_text())["frames"]
    assert [frame.get("mask_path") for frame in listed] == [None, "masks/1.jpg.png", None, None, None]


@pytest.mark.parametrize("output", ["", "photographs", "notes"])
def test_a_folder_with_other_files_is_not_written_to(
    source: Path, tmp_path: Path, solver: type[FakeSolver], output: str
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").touch()
    with pytest.raises(GenLangSplatError, match="exists, and is no scene of this command"):
        make_scene(source, tmp_path / output, PhotographSettings(), solver)


def test_a_scene_of_other_photographs_is_not_replaced(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    make_scene(source, tmp_path / "scene", PhotographSettings(), solver)
    shutil.copytree(source, tmp_path / "others")
    with pytest.raises(GenLangSplatError, match=r"is the scene of .*photographs\. Name another folder"):
        make_scene(tmp_path / "others", tmp_path / "scene", PhotographSettings(), solver)


def test_a_failure_leaves_no_scene(tmp_path: Path, solver: type[FakeSolver]) -> None:
    write_photographs(tmp_path / "photographs", NAMES[:1])
    with pytest.raises(GenLangSplatError, match="has only 1 photographs"):
        make_scene(tmp_path / "photographs", tmp_path / "scene", PhotographSettings(), solver)
    assert not (tmp_path / "scene").exists()


def test_tiny_photographs_are_refused(source: Path, tmp_path: Path, solver: type[FakeSolver]) -> None:
    with pytest.raises(GenLangSplatError, match="--max-image-side is 100; expected at least 200"):
        make_scene(source, tmp_path / "scene", PhotographSettings(max_image_side=100), solver)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt-get install ffmpeg")
def test_a_video_becomes_a_scene_of_its_frames(tmp_path: Path, solver: type[FakeSolver]) -> None:
    video = tmp_path / "walk.mp4"
    pattern = "testsrc2=size=96x64:rate=10:duration=2"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", pattern, str(video)], check=True)
    outcome, _ = make_scene(video, tmp_path / "scene", PhotographSettings(frames=5), solver)
    assert outcome.placed == 5
    assert all(name.startswith("images/frame_000") for name in frames(tmp_path / "scene"))
