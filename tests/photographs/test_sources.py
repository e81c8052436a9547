"""Which files of a folder are photographs, and what is said about folders that are not of use."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.sources import find_photographs, is_video


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names_in(folder: Path, output: str = "out") -> tuple[str, ...]:
    return find_photographs(folder, folder / output).names


def test_photographs_are_in_natural_order(tmp_path: Path) -> None:
    make(tmp_path, "10.jpg", "9.JPG", "b/1.png", "a/2.tiff", "notes.txt")
    assert names_in(tmp_path) == ("9.JPG", "10.jpg", "a/2.tiff", "b/1.png")


def test_the_root_is_the_deepest_common_folder(tmp_path: Path) -> None:
    found = find_photographs(make(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg"), tmp_path / "out")
    assert found.root == tmp_path / "images" and found.names == ("1.jpg", "2.jpg", "3.jpg")


def test_hidden_files_masks_copies_and_the_output_do_not_count(tmp_path: Path) -> None:
    own = ("images/1.jpg", "images/2.jpg", "images/3.jpg")
    make(tmp_path, *own, "images_2/1.jpg", "images/._1.jpg", ".cache/1.jpg", "masks/1.png", "out/images/1.jpg")
    assert names_in(tmp_path) == ("1.jpg", "2.jpg", "3.jpg")


def test_a_folder_with_a_number_is_no_copy_without_the_folder_that_it_copies(tmp_path: Path) -> None:
    make(tmp_path, "left_2/1.jpg", "left_2/2.jpg", "right_2/1.jpg")
    assert len(names_in(tmp_path)) == 3


def test_a_second_folder_with_other_photographs_is_no_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "walk/1.jpg", "walk/2.jpg", "walk_2/2.jpg", "walk_2/3.jpg", "walk_4/1.png")
    with caplog.at_level(logging.INFO):
        assert names_in(tmp_path) == ("walk/1.jpg", "walk/2.jpg", "walk_2/2.jpg", "walk_2/3.jpg")
    assert f"Left out {tmp_path / 'walk_4'}" in caplog.text


def test_links_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "a/2.jpg", "a/3.jpg")
    (tmp_path / "a/back").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    assert names_in(tmp_path) == ("1.jpg", "2.jpg", "3.jpg")


def test_masks_in_the_folder_are_found(tmp_path: Path) -> None:
    make(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg", "masks/1.png")
    assert find_photographs(tmp_path, tmp_path / "out").masks == tmp_path / "masks"
    # What lies outside of the given folder belongs to others.
    assert find_photographs(tmp_path / "images", tmp_path / "out").masks is None


def test_a_folder_of_masks_can_be_given(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg", "2.jpg", "3.jpg", "ignore/1.png", "ignore/2.png")
    found = find_photographs(tmp_path, tmp_path / "out", tmp_path / "ignore")
    assert found.masks == tmp_path / "ignore" and found.names == ("1.jpg", "2.jpg", "3.jpg")
    # Also relative to the photographs.
    assert find_photographs(tmp_path, tmp_path / "out", Path("ignore")) == found
    with pytest.raises(GenLangSplatError, match=r"folder of masks nowhere does not exist\. Correct --masks"):
        find_photographs(tmp_path, tmp_path / "out", Path("nowhere"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("notes.txt",), r"has no photographs \(.*found 1 other files"),
        (("1.jpg",), "has only 1 photographs, expected at least 3"),
        (("IMG_1.HEIC", "IMG_2.HEIC"), r"2 photographs .* are HEIC files.*IMG_1\.HEIC.*mogrify -format jpg"),
        (("1.jpg", "2.jpg", "3.jpg", "4.dng"), r"1 photographs .* are DNG files"),
        (("a.mp4", "b.mov"), r"has 2 videos and no photographs\. Give one video: .*a\.mp4"),
    ],
)
def test_a_folder_without_enough_photographs_says_what_it_has(
    tmp_path: Path, files: tuple[str, ...], message: str
) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        names_in(make(tmp_path, *files))


def test_heic_files_that_were_converted_do_not_matter(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number}.{suffix}" for number in range(3) for suffix in ("heic", "jpg")))
    assert names_in(tmp_path) == ("0.jpg", "1.jpg", "2.jpg")


def test_paths_that_are_no_folder(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="does not exist"):
        names_in(tmp_path / "nowhere")
    make(tmp_path, "photographs.zip")
    with pytest.raises(GenLangSplatError, match="neither a folder nor a video"):
        names_in(tmp_path / "photographs.zip")


def test_videos_are_known_by_their_suffix() -> None:
    assert is_video(Path("Walk.MP4")) and not is_video(Path("walk.jpg"))
