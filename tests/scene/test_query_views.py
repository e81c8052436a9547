"""Files and names of a query's answers: one per view, also where photographs in several folders share a name."""

from __future__ import annotations

import json
from pathlib import Path

from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.query_views import query_views
from genlangsplat_ns.scene.settings import CameraSettings
from tests.scene.language_scenes import language_scene


def scene_with_views(*names: str) -> LanguageScene:
    """The scene with training views of these names and one held-out view."""
    scene = language_scene()
    views = {"train": names, "eval": ("held out.png",)}
    scene.datamanager.dataset.side_effect = lambda split: views[split]
    scene.datamanager.view_name.side_effect = lambda split, index: views[split][index]
    return scene


def test_views_of_one_folder_are_called_by_their_stem(tmp_path: Path) -> None:
    document = query_views(scene_with_views("1.jpg", "2.jpg"), TextQuery(("left",)), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        f"{view}-0-left-{kind}.png" for view in ("eval-held out", "train-1", "train-2") for kind in ("mask", "overlay")
    ]
    assert [result["view"] for result in document["results"]] == ["1.jpg", "2.jpg", "held out.png"]


def test_every_view_has_its_own_files_and_is_named_by_its_path(tmp_path: Path) -> None:
    names = ("cam0/1.jpg", "cam1/1.jpg", "cam0-1.jpg", "cam1/1.png", "CAM1/1.jpg")
    query_views(scene_with_views(*names), TextQuery(("left", "right")), tmp_path, CameraSettings(split="train"))
    results = json.loads((tmp_path / "query.json").read_text())["results"]
    assert [result["view"] for result in results] == [name for name in names for _ in range(2)]
    for kind in ("overlay", "mask"):
        files = {result[kind] for result in results}
        assert len({name.casefold() for name in files}) == 10
        assert files == {path.name for path in tmp_path.glob(f"*-{kind}.png")}
