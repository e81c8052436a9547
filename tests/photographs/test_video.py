"""Frames of a video: the sharpest of each part, by their number."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.sharpness import sharpness
from genlangsplat_ns.photographs.video import extract_frames, sharpest_of_parts

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt-get install ffmpeg")

SHARP = (2, 5, 9)


def test_the_sharpest_of_each_part_is_taken() -> None:
    assert sharpest_of_parts([1.0, 3.0, 2.0, 9.0, 8.0, 7.0], 2) == [1, 3]
    assert sharpest_of_parts([1.0, 3.0, 2.0], 10) == [0, 1, 2]
    assert len(sharpest_of_parts([float(number) for number in range(1000)], 7)) == 7


def test_blurred_pictures_are_less_sharp_at_any_size() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200), dtype=np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 2)
    assert sharpness(cv2.GaussianBlur(texture, (0, 0), 8)) < 0.1 * sharpness(texture)
    assert sharpness(np.full((50, 50), 7, np.uint8)) == 0


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames of a moving texture, of which three are sharp."""
    texture = np.random.default_rng(0).integers(0, 255, (40, 200, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    for number in range(12):
        frame = texture[:, 20 * number : 20 * number + 240]
        if number not in SHARP:
            frame = cv2.GaussianBlur(frame, (0, 0), 4)
        Image.fromarray(frame).save(tmp_path / f"{number:02d}.png")
    path = tmp_path / "walk.mp4"
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "%02d.png"), "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, check=True)
    return path


@needs_ffmpeg
def test_sharp_frames_of_a_video(video: Path, tmp_path: Path) -> None:
    extract_frames(video, tmp_path / "frames", 3)
    assert sorted(path.name for path in (tmp_path / "frames").glob("*.jpg")) == [
        f"frame_{number:05d}.jpg" for number in SHARP
    ]
    with Image.open(tmp_path / "frames/frame_00005.jpg") as frame, Image.open(tmp_path / "05.png") as original:
        assert np.abs(np.asarray(frame, float) - np.asarray(original, float)).mean() < 25


@needs_ffmpeg
def test_frames_are_taken_again_only_if_the_video_or_their_number_changes(video: Path, tmp_path: Path) -> None:
    def written() -> int:
        return (tmp_path / "frames").stat().st_mtime_ns

    extract_frames(video, tmp_path / "frames", 3)
    first = written()
    extract_frames(video, tmp_path / "frames", 3)
    assert written() == first
    extract_frames(video, tmp_path / "frames", 4)
    assert written() != first and len(list((tmp_path / "frames").glob("*.jpg"))) == 4


@needs_ffmpeg
def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"no video")
    with pytest.raises(GenLangSplatError, match=r"ffmpeg cannot read the video .*walk\.mp4 \(.*Invalid data"):
        extract_frames(tmp_path / "walk.mp4", tmp_path / "frames", 3)
    assert not (tmp_path / "frames").exists()


def test_without_ffmpeg_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "walk.mp4").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GenLangSplatError, match=r"Could not find ffmpeg.*apt-get install ffmpeg"):
        extract_frames(tmp_path / "walk.mp4", tmp_path / "frames", 3)


def test_too_few_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="--frames is 2; expected at least 3"):
        extract_frames(tmp_path / "walk.mp4", tmp_path / "frames", 2)
