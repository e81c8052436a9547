"""Labels of a scene whose photographs in several folders share their names."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.evaluation.labels import LabeledObject, ViewLabels
from genlangsplat_ns.evaluation.lerf_ovs import write_labels
from genlangsplat_ns.scene.labels import usable_labels, warp_labels
from genlangsplat_ns.scene.language_scene import LanguageScene
from tests.scene.language_scenes import two_clouds
from tests.views.view_scenes import SIZE, open_scene, pinhole, write_scene

CAMERAS = {"cam0": 2.0, "cam1": 12.0}
"""Left side of the cup in the labels of each camera."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> LanguageScene:
    """A scene with one training view, one held-out view and one view in both splits."""
    folder = tmp_path_factory.mktemp("scene")
    names = ("cam0/1.png", "cam1/1.png", "cam1/2.png")
    for name in names:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE).save(folder / "images" / name)
    write_scene(folder, {name: pinhole(SIZE) for name in names})
    file = folder / "transforms.json"
    lists = {"train_filenames": [names[0], names[2]], "val_filenames": names[1:], "test_filenames": names[1:]}
    lists = {key: [f"images/{name}" for name in found] for key, found in lists.items()}
    file.write_text(json.dumps(json.loads(file.read_text()) | lists))
    return LanguageScene(two_clouds(), open_scene(folder))


def label(folder: Path, *names: str) -> Path:
    """Writes labels whose files lie in the subfolders of the photographs, which they name without folder."""
    for name in names:
        left = CAMERAS[name.split("/")[0]]
        cup = LabeledObject.from_polygon("cup", [(left, 2.0), (left + 6, 2.0), (left + 6, 9.0), (left, 9.0)])
        file = name.rpartition("/")[2]
        write_labels((folder / name).with_suffix(".json"), ViewLabels(file, *SIZE, (cup,)))
    return folder


def lefts(scene: LanguageScene, folder: Path, split: str) -> dict[str, float]:
    """The left side of the cup in every labeled view of a split."""
    pairs = warp_labels(read_label_set(folder), scene, scene.views(split)).pairs
    return {view.name: float(np.nonzero(found.truth("cup").mask)[1].min()) for view, found in pairs}


def test_labels_that_nobody_asked_for_are_reported_and_not_used(
    scene: LanguageScene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A data set may have a folder of labels in a format that is not read, which must not end a training."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    monkeypatch.setattr(scene.datamanager.config.dataparser, "data", tmp_path)
    with caplog.at_level(logging.WARNING):
        assert usable_labels(scene, scene.views("all")) is None
    assert "labels beside the data are not used" in caplog.text and "YOLO" in caplog.text


def test_every_view_has_its_own_labels(scene: LanguageScene, tmp_path: Path) -> None:
    folder = label(tmp_path, "cam0/1.png", "cam1/1.png", "cam1/2.png")
    assert lefts(scene, folder, "all") == {"cam0/1.png": 2.0, "cam1/1.png": 12.0, "cam1/2.png": 12.0}
    assert lefts(scene, folder / "cam1", "all") == {"cam1/1.png": 12.0, "cam1/2.png": 12.0}


def test_a_held_out_view_does_not_get_the_labels_of_a_training_view(scene: LanguageScene, tmp_path: Path) -> None:
    assert lefts(scene, label(tmp_path, "cam0/1.png"), "eval") == {}
    assert lefts(scene, tmp_path / "cam0", "eval") == {}
    assert lefts(scene, tmp_path / "cam0", "train") == {"cam0/1.png": 2.0}


def test_a_photograph_in_both_splits_has_labels_in_both(scene: LanguageScene, tmp_path: Path) -> None:
    folder = label(tmp_path, "cam1/2.png")
    assert lefts(scene, folder, "train") == lefts(scene, folder, "eval") == lefts(scene, folder, "all")


def test_labels_without_folders_are_refused_where_they_fit_several_views(scene: LanguageScene, tmp_path: Path) -> None:
    (label(tmp_path / "a", "cam0/1.png") / "cam0").rename(tmp_path / "flat")
    with pytest.raises(GenLangSplatError, match=r"labels 1 fit 2 views: cam0/1\.png, cam1/1\.png"):
        lefts(scene, tmp_path / "flat", "eval")


def test_pictures_of_class_numbers_are_not_taken_for_classes(scene: LanguageScene, tmp_path: Path) -> None:
    for camera in CAMERAS:
        (tmp_path / camera).mkdir()
        Image.fromarray(np.eye(12, dtype=np.uint8)).save(tmp_path / camera / "1.png")
    with pytest.raises(GenLangSplatError, match="pictures of class numbers"):
        lefts(scene, tmp_path, "all")
