"""Labels are matched to views by the paths of photographs: never to a wrong one, and an unclear name is an error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.evaluation.matching import match_views
from tests.evaluation.label_writers import annotation, coco, isat, labelme, shape, write_json

NESTED = ("cam0/1.jpg", "cam0/2.jpg", "cam1/1.jpg", "cam1/3.jpg")


@dataclass
class View:
    name: str
    split: str = "train"


def matched(views, labels, folder=None):
    """The key of the labels of each view that has some."""
    named = {key: ViewLabels(key, 20, 12, ()) for key in labels} if not isinstance(labels, dict) else labels
    found = match_views([View(name) for name in views], named, folder)
    keys = {id(view_labels): key for key, view_labels in named.items()}
    return {view.name: keys[id(view_labels)] for view, view_labels in found.pairs}


def read(folder):
    labels = read_label_set(folder)
    return labels.views


@pytest.mark.parametrize("labels", [("1", "b.2"), ("1.jpg", "b.2.png"), ("1.JPG", "b.2")])
def test_views_of_one_folder_are_matched_by_their_stem(labels):
    assert matched(("1.jpg", "b.2.png", "3.jpg"), labels) == {"1.jpg": labels[0], "b.2.png": labels[1]}


def test_paths_are_matched_with_and_without_suffix():
    assert matched(NESTED, ("cam0/1", "cam1/1.jpg")) == {"cam0/1.jpg": "cam0/1", "cam1/1.jpg": "cam1/1.jpg"}


def test_a_stem_that_is_unique_needs_no_folder():
    assert matched(NESTED, ("2", "3")) == {"cam0/2.jpg": "2", "cam1/3.jpg": "3"}


def test_an_unclear_stem_is_an_error_that_says_how_to_name_the_labels():
    with pytest.raises(GenLangSplatError, match=r"cam0/1\.jpg, cam1/1\.jpg") as caught:
        matched(NESTED, ("1",))
    assert '"cam0/1.json"' in str(caught.value) and "info.name" in str(caught.value)


def test_a_view_outside_the_subfolders_has_the_plain_name():
    assert matched(("1.jpg", "cam0/1.jpg"), ("1", "cam0/1")) == {"1.jpg": "1", "cam0/1.jpg": "cam0/1"}


def test_the_suffix_decides_between_photographs_of_one_stem():
    views = ("x.jpg", "x.png")
    assert matched(views, ("x.png", "x.jpg")) == {"x.jpg": "x.jpg", "x.png": "x.png"}
    with pytest.raises(GenLangSplatError, match=r"x\.jpg, x\.png"):
        matched(views, ("x",))


def test_folders_above_those_of_the_views_are_allowed():
    assert matched(NESTED, ("data/images/cam1/1.jpg",)) == {"cam1/1.jpg": "data/images/cam1/1.jpg"}
    assert matched(("1.jpg", "2.jpg"), ("images/2.jpg",)) == {"2.jpg": "images/2.jpg"}
    assert matched(("day/cam0/1.jpg", "night/cam1/1.jpg"), ("cam1/1",)) == {"night/cam1/1.jpg": "cam1/1"}


def test_labels_of_a_folder_that_the_scene_does_not_have_are_left_over():
    labels = ("cam0/1", "cam7/1", "cam7/2", "cam7/3")
    assert matched(NESTED, labels) == {"cam0/1.jpg": "cam0/1"}
    assert matched(("cam0/1.jpg", "cam1/2.jpg"), labels) == {"cam0/1.jpg": "cam0/1"}


def test_two_labels_of_one_view_are_an_error():
    with pytest.raises(GenLangSplatError, match=r"cam0/1 and cam1/1 both fit the view 1\.jpg"):
        matched(("1.jpg",), ("cam0/1", "cam1/1"))


def test_a_photograph_in_both_splits_counts_once():
    views = [View("1.jpg"), View("2.jpg"), View("1.jpg", "eval")]
    (pair,) = match_views(views, {"1": ViewLabels("1.jpg", 20, 12, ())}).pairs
    assert pair[0] is views[0]


@pytest.mark.parametrize(
    "name", ["frame_1_jpg.rf.0a1b2c3d4e5f.jpg", "1a2b3c4d-frame_1.jpg", "/data/local-files/?d=scan%2Fframe_1.jpg"]
)
def test_names_that_tools_change_are_recognized(tmp_path, name):
    write_json(tmp_path / "_annotations.coco.json", coco(annotation([[2, 2, 9, 2, 9, 9]]), names=(name,)))
    assert list(matched(("frame_1.jpg", "frame_2.jpg"), read(tmp_path))) == ["frame_1.jpg"]


def test_roboflow_keeps_the_name_of_the_photograph(tmp_path):
    document = coco(annotation([[2, 2, 9, 2, 9, 9]]), names=("my-photo_png.rf.0a1b.jpg",))
    document["images"][0]["extra"] = {"name": "my photo.png"}
    write_json(tmp_path / "_annotations.coco.json", document)
    assert list(matched(("my photo.png",), read(tmp_path))) == ["my photo.png"]


@pytest.mark.parametrize("make", [isat, lambda name: labelme(shape(), name=name)])
def test_label_files_in_subfolders_belong_to_the_photographs_in_them(tmp_path, make):
    for name in NESTED:
        write_json((tmp_path / "labels" / name).with_suffix(".json"), make(name.rpartition("/")[2]))
    labels = read(tmp_path / "labels")
    assert matched(NESTED, labels) == {name: name.removesuffix(".jpg") for name in NESTED}


@pytest.mark.parametrize("make", [isat, lambda name: labelme(shape(), name=name)])
def test_label_files_in_one_folder_may_state_the_path(tmp_path, make):
    for number, name in enumerate(NESTED):
        write_json(tmp_path / f"{number}.json", make(f"..\\images\\{name}".replace("/", "\\")))
    assert set(matched(NESTED, read(tmp_path))) == set(NESTED)


def test_isat_states_the_folder_of_the_photograph(tmp_path):
    write_json(tmp_path / "1.json", isat("1.jpg", folder="D:\\scan\\images\\cam1"))
    assert list(matched(NESTED, read(tmp_path))) == ["cam1/1.jpg"]


def test_the_paths_of_coco_are_those_of_the_photographs(tmp_path):
    boxes = [annotation([[2, 2, 9, 2, 9, 9]], image=number + 1) for number in range(4)]
    write_json(tmp_path / "annotations" / "instances_default.json", coco(*boxes, names=NESTED))
    assert set(matched(NESTED, read(tmp_path))) == set(NESTED)


def test_coco_files_in_the_folders_of_the_photographs(tmp_path):
    for camera in ("cam0", "cam1"):
        write_json(
            tmp_path / camera / "annotations" / "instances_default.json",
            coco(annotation([[2, 2, 9, 2, 9, 9]]), names=("1.jpg",)),
        )
    assert matched(NESTED, read(tmp_path)) == {"cam0/1.jpg": "cam0/1", "cam1/1.jpg": "cam1/1"}


def test_one_subfolder_of_the_labels_may_be_given(tmp_path):
    for name in ("1.json", "2.json", "3.json"):
        write_json(tmp_path / "labels" / "cam0" / name, isat(name.replace("json", "jpg")))
    folder = tmp_path / "labels" / "cam0"
    assert matched(NESTED, read(folder), folder) == {"cam0/1.jpg": "1", "cam0/2.jpg": "2"}


def test_masks_in_subfolders_belong_to_the_photographs_in_them(tmp_path):
    for view in ("cam0/1", "cam1/1"):
        (tmp_path / view).mkdir(parents=True)
        Image.fromarray(np.ones((12, 20), bool)).save(tmp_path / view / "cup.png")
    labels = read_label_set(tmp_path)
    assert labels.kind == "masks" and labels.views["cam0/1"].categories == ("cup",)
    assert matched(NESTED, labels.views) == {"cam0/1.jpg": "cam0/1", "cam1/1.jpg": "cam1/1"}
