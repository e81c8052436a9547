"""Names of views: the path of the photograph below the folder that holds the photographs of both splits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from tests.views.view_scenes import SIZE, open_scene, pinhole, write_scene


def scene_with(folder: Path, *paths: str, held_out: str | None = None) -> GenLangSplatDataManager:
    """Opens a scene of gray photographs at these paths."""
    for path in paths:
        (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE).save(folder / "images" / path)
    write_scene(folder, {path: pinhole(SIZE) for path in paths})
    if held_out is not None:
        file = folder / "transforms.json"
        transforms = json.loads(file.read_text())
        names = [name for name in transforms["train_filenames"] if name != f"images/{held_out}"]
        held = [f"images/{held_out}"]
        file.write_text(
            json.dumps(transforms | {"train_filenames": names, "val_filenames": held, "test_filenames": held})
        )
    return open_scene(folder)


def names(views: GenLangSplatDataManager) -> list[str]:
    return [views.view_name(*view) for view in views.all_views()]


@pytest.mark.parametrize("folder", ["", "cam0/", "captures/cam0/"])
def test_photographs_of_one_folder_have_its_file_names(tmp_path: Path, folder: str) -> None:
    assert names(scene_with(tmp_path, f"{folder}a 1.png", f"{folder}b.png", held_out=f"{folder}b.png")) == [
        "a 1.png",
        "b.png",
    ]


def test_photographs_of_several_folders_are_named_with_them(tmp_path: Path) -> None:
    views = scene_with(tmp_path, "day/cam0/1.png", "day/cam1/1.png", "day/2.png")
    assert set(names(views)) == {"cam0/1.png", "cam1/1.png", "2.png"}


def test_the_folders_of_both_splits_count(tmp_path: Path) -> None:
    views = scene_with(tmp_path, "cam0/1.png", "cam0/2.png", "cam1/1.png", held_out="cam1/1.png")
    assert names(views) == ["cam0/1.png", "cam0/2.png", "cam1/1.png"]


def test_the_way_to_a_photograph_does_not_change_its_name(tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    Image.new("RGB", SIZE).save(tmp_path / "outside.png")
    (tmp_path / "scene" / "images").mkdir()
    Image.new("RGB", SIZE).save(tmp_path / "scene" / "images" / "inside.png")
    frames = {"inside.png": pinhole(SIZE), "../../outside.png": pinhole(SIZE)}
    views = open_scene(write_scene(tmp_path / "scene", frames))
    assert set(names(views)) == {"scene/images/inside.png", "outside.png"}
