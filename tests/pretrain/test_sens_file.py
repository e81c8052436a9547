"""ScanNet's recordings: reading, and errors for damaged files."""

from __future__ import annotations

import pickle
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.sens_file import SensFile
from tests.pretrain.sens_writer import SensWriter, smooth_picture

PICTURES = [smooth_picture(seed) for seed in range(4)]


@pytest.mark.parametrize(("kind", "tolerance"), [("raw", 0), ("png", 0), ("jpeg", 6)])
def test_every_frame_comes_back_in_any_order(tmp_path: Path, kind: str, tolerance: int) -> None:
    file = SensFile.open(SensWriter(PICTURES, kind).write(tmp_path / "a.sens"))
    assert len(file.numbers) == 4 and file.color_compression == kind and file.problem is None
    for number in (2, 0, 3, 1):
        assert np.abs(file.color(number).astype(int) - PICTURES[number]).max() <= tolerance


def test_frames_whose_tracking_was_lost_are_told_apart(tmp_path: Path) -> None:
    poses = [np.full((4, 4), -np.inf), np.eye(4), np.where(np.eye(4) > 0, np.nan, 0.0)]
    file = SensFile.open(SensWriter(PICTURES, poses=poses).write(tmp_path / "a.sens"))
    assert list(map(file.is_tracked, file.numbers)) == [False, True, False, True]


def test_a_picture_is_shrunk_by_the_mean_of_areas(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    file = SensFile.open(SensWriter([pixels], "png").write(tmp_path / "a.sens"))
    means = pixels.reshape(4, 4, 6, 4, 3).mean(axis=(1, 3))
    assert np.abs(file.color(0, max_side=6) - means).max() <= 1
    assert (file.color(0, max_side=24) == pixels).all()


def test_neither_opening_nor_reading_takes_more_than_a_frame(tmp_path: Path) -> None:
    writer = SensWriter(PICTURES, "raw", depth_lengths={0: 30_000_000})
    path = tmp_path / "a.sens"
    with path.open("wb") as handle:
        # A sparse hole instead of the first frame's depth.
        handle.write(writer.header() + writer.frame(0))
        handle.seek(len(writer.header()) + 96 + PICTURES[0].nbytes + 30_000_000)
        handle.write(writer.frame(1) + writer.frame(2) + writer.frame(3))
    tracemalloc.start()
    file = SensFile.open(path)
    assert (file.color(3) == PICTURES[3]).all()
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_an_open_file_travels_to_other_processes(tmp_path: Path) -> None:
    file = SensFile.open(SensWriter(PICTURES, "png").write(tmp_path / "a.sens"))
    assert (pickle.loads(pickle.dumps(file)).color(1) == PICTURES[1]).all()


# Damaged files

HUGE = 2**62

DAMAGED_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"version": 3}, "has version 3, but .* version 4"),
    "no frames": ({"frames": []}, "contains no frames"),
    "endless name": ({"name_length": HUGE}, f"length of its sensor name is {HUGE} bytes"),
    "unknown color": ({"color_code": -1}, r"color compression -1, expected one of 0 \(raw\), 1 \(png\), 2 \(jpeg\)"),
    "foreign color": ({"color_code": 77}, "color compression 77"),
    "no pixels": ({"color_size": (0, 16)}, "0x16"),
    "endless picture": ({"color_size": (2**31, 16)}, f"{2**31}x16"),
}


@pytest.mark.parametrize("case", DAMAGED_HEADERS)
def test_a_damaged_header_is_refused(tmp_path: Path, case: str) -> None:
    changes, message = DAMAGED_HEADERS[case]
    path = SensWriter(**{"frames": PICTURES, **changes}).write(tmp_path / "a.sens")
    with pytest.raises(GenLangSplatError, match=f"a.sens.* {message}"):
        SensFile.open(path)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_breaks_off_says_how_many_frames_are_whole(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    writer = SensWriter(PICTURES, "png")
    ends = np.cumsum([len(writer.header()), *(len(writer.frame(number)) for number in range(4))])
    length = int(share * ends[-1])
    path = tmp_path_factory.mktemp("sens") / "a.sens"
    path.write_bytes(writer.data()[:length])
    whole = int((ends[1:] <= length).sum())
    part = "within its header" if length < ends[0] else f".*{whole} of its 4 frames are complete"
    if whole:
        file = SensFile.open(path)
        assert len(file.numbers) == whole and re.search(f"{path} is truncated {part}", file.problem or "")
        assert (file.color(whole - 1) == PICTURES[whole - 1]).all()
    else:
        with pytest.raises(GenLangSplatError, match=f"is truncated {part}"):
            SensFile.open(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": {2: HUGE}}, f"color of frame 2 has a length of {HUGE} bytes"),
        ({"lengths": {2: 60_000}}, "truncated at byte .* but frame 2 ends at byte"),
        ({"depth_lengths": {2: HUGE}}, "truncated at byte .* but frame 2 ends at byte"),
    ],
)
def test_absurd_lengths_end_the_file_there_and_take_no_memory(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = SensWriter(PICTURES, **changes).write(tmp_path / "a.sens")
    tracemalloc.start()
    file = SensFile.open(path)
    assert len(file.numbers) == 2 and re.search(f"{message}.*: 2 of its 4 frames are complete", file.problem or "")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_an_absurd_number_of_frames_takes_no_memory(tmp_path: Path) -> None:
    path = SensWriter(PICTURES, claimed_frames=HUGE).write(tmp_path / "a.sens")
    tracemalloc.start()
    assert f"4 of its {HUGE} frames are complete" in (SensFile.open(path).problem or "")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


BROKEN_PICTURES: dict[str, tuple[bytes, str]] = {
    "garbage": (b"this is no picture" * 9, "cannot be read as an image"),
    "empty": (b"", "cannot be read as an image"),
    "cut": (SensWriter(PICTURES).frame(1)[96:400], "cannot be read as an image"),
    "another size": (
        SensWriter([smooth_picture(0, 12, 8)]).frame(0)[96:],
        "12x8 pixels, expected 24x16",
    ),
}


@pytest.mark.parametrize("case", BROKEN_PICTURES)
def test_a_broken_picture_is_named_and_the_others_are_read(tmp_path: Path, case: str) -> None:
    data, message = BROKEN_PICTURES[case]
    file = SensFile.open(SensWriter([PICTURES[0], data, PICTURES[2]]).write(tmp_path / "a.sens"))
    with pytest.raises(GenLangSplatError, match=f"Frame 1 of .*a.sens .*{message}"):
        file.color(1)
    assert np.abs(file.color(2).astype(int) - PICTURES[2]).max() <= 6


def test_raw_pixels_of_another_number_are_refused(tmp_path: Path) -> None:
    file = SensFile.open(SensWriter([PICTURES[0].tobytes()[:-1]], "raw").write(tmp_path / "a.sens"))
    with pytest.raises(
        GenLangSplatError, match=r"Frame 0 .* cannot be read as an image \(it has [\d,]+ bytes, expected"
    ):
        file.color(0)


def test_frames_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    file = SensFile.open(SensWriter(PICTURES).write(tmp_path / "a.sens"))
    for index in (-1, 4):
        with pytest.raises(GenLangSplatError, match="has 4 frames"):
            file.color(index)
    with pytest.raises(GenLangSplatError, match=r"absent.sens cannot be read \(No such file"):
        SensFile.open(tmp_path / "absent.sens")


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 1500), value=st.integers(0, 255))
def test_any_changed_byte_gives_a_file_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    data = bytearray(SensWriter(PICTURES[:2], "png").data())
    data[place % len(data)] = value
    path = tmp_path_factory.mktemp("sens") / "a.sens"
    path.write_bytes(data)
    try:
        file = SensFile.open(path)
        pictures = [file.color(index) for index in file.numbers]
    except GenLangSplatError as error:
        assert "a.sens" in str(error)
    else:
        assert all(picture.shape == (16, 24, 3) for picture in pictures)
