"""A folder that is no scene is refused with what it holds instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.scene_folder import check_scene_folder
from tests.views.scene_files import write_colmap, write_pictures, write_transforms


def check(data: Path) -> None:
    check_scene_folder(data, data / "transforms.json")


def test_a_scene_and_its_file_are_accepted(tmp_path: Path) -> None:
    write_transforms(tmp_path, ["a.png"])
    check(tmp_path)
    check_scene_folder(tmp_path / "transforms.json", tmp_path / "transforms.json")


def test_other_formats_need_no_transforms(tmp_path: Path) -> None:
    (tmp_path / "cameras.xml").touch()
    check_scene_folder(tmp_path, None)


def test_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"data folder .*nowhere does not exist"):
        check(tmp_path / "nowhere")
    with pytest.raises(GenLangSplatError, match=r"is empty.*gen-langsplat from-photos PHOTOS"):
        check(tmp_path)


@pytest.mark.parametrize("name", ["scene.zip", "video.mp4"])
def test_a_file_is_not_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(GenLangSplatError, match=f"{name} are a file.*give the folder"):
        check(tmp_path / name)


@pytest.mark.parametrize("kind", ["transforms", "colmap", "blender"])
def test_a_scene_one_folder_below_is_named(tmp_path: Path, kind: str) -> None:
    inner = tmp_path / "my scene"
    if kind == "transforms":
        write_transforms(inner, ["a.png"])
    elif kind == "blender":
        write_transforms(inner, ["a.png"])
        (inner / "transforms.json").rename(inner / "transforms_train.json")
    else:
        write_colmap(inner / "sparse/0", ["a.png", "b.png"])
    with pytest.raises(GenLangSplatError, match=r"give --data '.*/my scene'\."):
        check(tmp_path)


@pytest.mark.parametrize("folder", [".", "photos"])
def test_the_command_that_computes_cameras_can_be_pasted(tmp_path: Path, folder: str) -> None:
    data = tmp_path / "my photographs"
    write_pictures(data / folder, ["a.JPG"])
    with pytest.raises(GenLangSplatError) as caught:
        check(data)
    assert f"from-photos '{data / folder}' --output-dir '{data}-scene'" in str(caught.value)
