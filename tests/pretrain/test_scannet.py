"""ScanNet as a source: scenes and frames of both formats, and reports of excluded ones."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.scannet import HELD_OUT_SCENES, ScanNetSource
from tests.pretrain.sens_writer import SensWriter, smooth_picture

LOST = np.full((4, 4), -np.inf)


def record(root: Path, scene: str = "scene0001_00", num_frames: int = 5, lost: Iterable[int] = ()) -> Path:
    """Writes the recording of a scene, without tracking in some frames."""
    poses = [LOST if number in lost else np.eye(4) for number in range(num_frames)]
    writer = SensWriter([smooth_picture(number) for number in range(num_frames)], "png", poses=poses)
    return writer.write(root / "scans" / scene / f"{scene}.sens")


def export(root: Path, scene: str = "scene0001_00", num_frames: int = 5, lost: Iterable[int] = ()) -> Path:
    """Writes a scene in the format of ScanNet's export tools."""
    folder = root / scene
    for name in ("color", "pose"):
        (folder / name).mkdir(parents=True)
    for number in range(num_frames):
        Image.fromarray(smooth_picture(number)).save(folder / "color" / f"{number}.jpg", quality=95, subsampling=0)
        np.savetxt(folder / "pose" / f"{number}.txt", LOST if number in lost else np.eye(4), fmt="%f")
    return folder


def keys(source: ScanNetSource) -> list[str]:
    return [frame.key for frame in source.frames()]


# Frames


@pytest.mark.parametrize("write", [record, export])
def test_both_forms_give_the_same_frames(
    tmp_path: Path, write: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, num_frames=9, lost=[4, 5])
    source = ScanNetSource(tmp_path, stride=2)
    frames = source.frames()
    assert [frame.key for frame in frames] == [f"scene0001_00/{number:06d}" for number in (0, 2, 6, 8)]
    assert {frame.scene for frame in frames} == {"scene0001_00"}
    assert "ScanNet: 4 frames of 1 scenes; 1 frames without a pose are excluded" in caplog.messages
    for number, frame in zip((0, 2, 6, 8), frames, strict=True):
        pixels = source.load(frame).numpy()
        assert np.abs(pixels.astype(int) - smooth_picture(number)).max() <= 6


@pytest.mark.parametrize("write", [record, export])
def test_pictures_are_shrunk_to_the_limit(tmp_path: Path, write: Callable[..., Path]) -> None:
    write(tmp_path)
    source = ScanNetSource(tmp_path, max_side=12)
    means = smooth_picture(0).reshape(8, 2, 12, 2, 3).mean(axis=(1, 3))
    assert np.abs(source.load(source.frames()[0]).numpy() - means).max() <= 4


@settings(max_examples=25, deadline=None)
@given(num_frames=st.integers(1, 30), stride=st.integers(1, 12))
def test_a_multiple_of_a_stride_takes_some_of_its_frames(
    tmp_path_factory: pytest.TempPathFactory, num_frames: int, stride: int
) -> None:
    root = tmp_path_factory.mktemp("scannet")
    record(root, num_frames=num_frames)
    every, twice = (keys(ScanNetSource(root, stride=step)) for step in (stride, 2 * stride))
    assert len(every) == -(-num_frames // stride)
    assert twice == every[::2]


def test_scenes_are_found_wherever_they_lie_and_sorted(tmp_path: Path) -> None:
    export(tmp_path, "scene0003_00", 1)
    record(tmp_path, "scene0002_01", 1)
    record(tmp_path, "scene0001_00", 1).rename(tmp_path / "scene0001_00.sens")
    (tmp_path / "scans" / "scene0004_00").mkdir()
    (tmp_path / "scans" / "notes.txt").touch()
    assert keys(ScanNetSource(tmp_path)) == [f"scene{name}/000000" for name in ("0001_00", "0002_01", "0003_00")]


def test_a_source_travels_as_a_few_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    source = ScanNetSource(Path("data"), stride=1)
    frames = source.frames()
    packed = pickle.dumps(source)
    assert len(packed) < 500
    monkeypatch.chdir("/")
    assert (pickle.loads(packed).load(frames[3]).numpy() == smooth_picture(3)).all()


def test_an_exported_scene_without_poses_is_taken_whole(tmp_path: Path) -> None:
    folder = export(tmp_path, lost=[1])
    for path in (folder / "pose").iterdir():
        path.unlink()
    (folder / "pose").rmdir()
    assert len(keys(ScanNetSource(tmp_path, stride=1))) == 5


def test_exported_frames_without_a_readable_pose_are_left_out(tmp_path: Path) -> None:
    folder = export(tmp_path, lost=[1])
    (folder / "pose" / "2.txt").write_text("1 0 0\n")
    (folder / "pose" / "3.txt").unlink()
    assert keys(ScanNetSource(tmp_path, stride=1)) == ["scene0001_00/000000", "scene0001_00/000004"]


# Splits


def test_the_benchmarks_scenes_are_those_of_the_papers() -> None:
    assert len(set(HELD_OUT_SCENES)) == 10
    assert {"scene0000_00", "scene0347_00", "scene0645_00"} <= set(HELD_OUT_SCENES)


def test_training_sees_no_scan_of_a_held_out_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for scene in ("scene0000_00", "scene0000_01", "scene0001_00", "scene0645_02"):
        record(tmp_path, scene, 1)
    assert keys(ScanNetSource(tmp_path)) == ["scene0001_00/000000"]
    assert any("Excluded" in line and "scene0000_00, scene0000_01, scene0645_02" in line for line in caplog.messages)
    assert keys(ScanNetSource(tmp_path, split="held_out")) == ["scene0000_00/000000"]
    assert len(keys(ScanNetSource(tmp_path, split="all"))) == 4


def test_a_file_of_scenes_chooses_among_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for scene in ("scene0000_00", "scene0001_00", "scene0002_00"):
        record(tmp_path, scene, 1)
    listed = tmp_path / "train.txt"
    listed.write_text("scene0002_00\nscene0000_00\n\nscene0777_00\n")
    assert keys(ScanNetSource(tmp_path, scenes=listed)) == ["scene0002_00/000000"]
    assert any("1 of the 3 scenes" in line and "scene0777_00" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scene0001_00\nkitchen\n", "one scene name per line.* has kitchen"),
        ("", "is empty"),
        ("scene0777_00\nscene0778_00\n", r"None of the scenes in .* \(scene0777_00, scene0778_00\) is in"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_scenes_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    record(tmp_path)
    listed = tmp_path / "train.txt"
    if text is not None:
        listed.write_text(text)
    with pytest.raises(GenLangSplatError, match=message):
        ScanNetSource(tmp_path, scenes=listed).frames()


# Damaged scenes


def test_a_damaged_scene_is_named_and_the_others_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(tmp_path, "scene0001_00")
    cut, header = record(tmp_path, "scene0002_00"), record(tmp_path, "scene0003_00")
    # The file ends with 8 bytes after the last frame.
    cut.write_bytes(cut.read_bytes()[:-9])
    header.write_bytes(b"\4\0\0\0")
    (tmp_path / "scene0004_00" / "color").mkdir(parents=True)
    source = ScanNetSource(tmp_path, stride=1)
    assert [frame.scene for frame in source.frames()] == ["scene0001_00"] * 5 + ["scene0002_00"] * 4
    assert "scene0002_00.sens is truncated" in caplog.text and "4 of its 5 frames are complete" in caplog.text
    assert all(scene in caplog.text for scene in ("scene0003_00.sens", "scene0004_00/color"))


def test_a_source_of_nothing_usable_is_refused(tmp_path: Path) -> None:
    record(tmp_path, num_frames=2, lost=[0, 1])
    with pytest.raises(GenLangSplatError, match="0 scenes are damaged, and 2 frames have no pose"):
        ScanNetSource(tmp_path, stride=1).frames()
    with pytest.raises(GenLangSplatError, match=r"None of the 1 scenes .* split 'held_out'"):
        ScanNetSource(tmp_path, split="held_out").frames()


def test_a_folder_without_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"no ScanNet scene.*scene0000_00"):
        ScanNetSource(tmp_path).frames()
    with pytest.raises(GenLangSplatError, match="is not a folder"):
        ScanNetSource(tmp_path / "absent")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"stride": 0}, "stride is 0"), ({"max_side": 0}, "max_side is 0")],
)
def test_settings_without_sense_are_refused(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        ScanNetSource(tmp_path, **changes)


def test_frames_that_broke_after_they_were_listed_are_named(tmp_path: Path) -> None:
    folder = export(tmp_path, "scene0001_00")
    recording = record(tmp_path, "scene0002_00")
    source = ScanNetSource(tmp_path, stride=1)
    frames = source.frames()
    (folder / "color" / "3.jpg").write_bytes(b"this is no picture")
    (folder / "color" / "4.jpg").unlink()
    with pytest.raises(GenLangSplatError, match=r"3.jpg cannot be read as an image"):
        source.load(frames[3])
    with pytest.raises(GenLangSplatError, match=r"4.jpg cannot be read .*No such file"):
        source.load(frames[4])
    recording.unlink()
    with pytest.raises(GenLangSplatError, match="no longer contains scene0002_00"):
        source.load(frames[5])
