"""Names of photographs are found in the spellings that people's files have."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from genlangsplat_ns.views.picture_files import PictureFinder


def scene_with(folder: Path, *names: str) -> PictureFinder:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return PictureFinder(folder)


@pytest.mark.parametrize(
    ("stored", "listed"),
    [
        ("images/a.jpg", "images/a.jpg"),
        ("images/a.jpg", "./images/a.jpg"),
        ("images/a.png", "images/a"),
        ("images/frame.0001.png", "images/frame.0001"),
        ("images/a.jpg", "images\\a.jpg"),
        ("images/a.JPG", "images/a.jpg"),
        ("images/a.jpg", "images/a.png"),
        ("images/a.jpg", "a.jpg"),
        ("a.jpg", "images/a.jpg"),
        ("images/a photo [1].jpg", "images/a photo [1].jpg"),
        ("images/a.jpg", "/home/someone/scene/images/a.jpg"),
        ("images/a.jpg", "C:\\Users\\someone\\scene\\images\\a.jpg"),
        ("images/a.jpg", "../scene/images/a.jpg"),
        ("images/cam0/a.jpg", "cam0/a.jpg"),
    ],
)
def test_spellings(tmp_path: Path, stored: str, listed: str) -> None:
    assert scene_with(tmp_path, stored).find(listed) == tmp_path / stored


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_forms(tmp_path: Path, forms: tuple[str, str]) -> None:
    """Different computers store the same name with composed or decomposed letters."""
    stored, listed = (unicodedata.normalize(form, "images/Tür.jpg") for form in forms)
    found = scene_with(tmp_path, stored).find(listed)
    assert found is not None and found.is_file()


def test_the_exact_name_wins(tmp_path: Path) -> None:
    finder = scene_with(tmp_path, "images/a.png", "images/a.jpg", "images/A.jpg", "a.jpg")
    assert finder.find("images/a.jpg") == tmp_path / "images/a.jpg"


def test_a_name_is_not_found_in_another_folder_of_the_scene(tmp_path: Path) -> None:
    finder = scene_with(tmp_path, "images/cam1/a.jpg", "images/a.jpg", "a.jpg")
    assert finder.find("images/cam0/a.jpg") is None


def test_what_was_tried_is_named(tmp_path: Path) -> None:
    finder = scene_with(tmp_path, "images/b.jpg")
    assert finder.find("cam/a") is None
    words = finder.describe("cam/a")
    assert "cam/a" in words and "images/cam/a" in words and ".png" in words and str(tmp_path) in words
