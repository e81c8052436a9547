"""Labels of three layouts. Unusable labels are reported and skipped, or raise an error; none is scored silently."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import find_label_folder, read_label_set
from genlangsplat_ns.evaluation.labels import LabeledMask, LabeledObject, ViewLabels
from genlangsplat_ns.evaluation.lerf_ovs import write_labels

SQUARE = ((2.0, 3.0), (6.0, 3.0), (6.0, 8.0), (2.0, 8.0))


def paint(path, size=(20, 12), left=2, value=255):
    """Writes a mask with a block of four columns."""
    mask = np.zeros(size[::-1], np.uint8)
    mask[:, left : left + 4] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.fixture
def ovs3d(tmp_path):
    folder = tmp_path / "segmentations"
    folder.mkdir()
    (folder / "classes.txt").write_text("a red bag\nwood wall\n\nCafé/Tüte\n", encoding="utf-8")
    for view in ("00", "07"):
        paint(folder / view / "a red bag.png")
        paint(folder / view / "wood wall.png", left=10, value=1)
    paint(folder / "00" / "café-tüte.png", left=15)
    return tmp_path


def test_3dovs_is_read_by_its_class_list(ovs3d):
    labels = read_label_set(ovs3d)
    assert labels.kind == "3d-ovs" and set(labels.views) == {"00", "07"}
    view = labels.views["00"]
    assert (view.width, view.height) == (20, 12)
    assert set(view.categories) == {"a red bag", "wood wall", "Café/Tüte"}
    assert view.truth("wood wall").mask[:, 10:14].all() and view.truth("wood wall").mask.sum() == 48
    assert view.truth("a red bag").boxes == ((2.0, 0.0, 5.0, 11.0),)


def test_class_names_keep_spaces_slashes_and_accents_that_file_names_replace(tmp_path):
    folder = tmp_path / "labels"
    paint(folder / "00" / "salt_pepper.png")
    paint(folder / "00" / "KU\u0308CHE.png", left=9)  # a decomposed Ü, as some file systems write it
    (folder / "classes.txt").write_text("salt / pepper\nKüche\n", encoding="utf-8")
    assert read_label_set(folder).views["00"].categories == ("Küche", "salt / pepper")


def test_an_empty_class_list_is_refused(ovs3d):
    (ovs3d / "segmentations" / "classes.txt").write_text("\n \n")
    with pytest.raises(GenLangSplatError, match="empty"):
        read_label_set(ovs3d)


def test_classes_that_share_a_file_are_refused(ovs3d):
    (ovs3d / "segmentations" / "classes.txt").write_text("a red bag\nA Red-Bag\n")
    with pytest.raises(GenLangSplatError, match="different names"):
        read_label_set(ovs3d)


def test_masks_without_a_class_and_empty_masks_are_skipped_and_reported(ovs3d, caplog):
    caplog.set_level(logging.INFO)
    paint(ovs3d / "segmentations" / "07" / "stranger.png")
    Image.fromarray(np.zeros((12, 20), np.uint8)).save(ovs3d / "segmentations" / "07" / "café tüte.png")
    labels = read_label_set(ovs3d)
    assert labels.views["07"].categories == ("a red bag", "wood wall")
    assert len(labels.skipped) == 2
    assert "stranger" in " ".join(labels.skipped) and "empty" in " ".join(labels.skipped)
    assert "Skipped 2 unusable labels" in caplog.text


def test_masks_of_a_view_must_have_the_same_size(ovs3d):
    paint(ovs3d / "segmentations" / "00" / "wood wall.png", size=(40, 24))
    with pytest.raises(GenLangSplatError, match="others of this view"):
        read_label_set(ovs3d)


def test_masks_of_another_data_set_are_refused(ovs3d):
    (ovs3d / "segmentations" / "classes.txt").write_text("banana\n")
    with pytest.raises(GenLangSplatError, match="another data set"):
        read_label_set(ovs3d)


def test_a_broken_mask_is_named(ovs3d):
    (ovs3d / "segmentations" / "00" / "wood wall.png").write_bytes(b"no picture")
    with pytest.raises(GenLangSplatError, match=r"wood wall\.png"):
        read_label_set(ovs3d)


def test_without_a_class_list_the_file_names_are_the_classes(tmp_path):
    paint(tmp_path / "frame_1" / "cup.png")
    paint(tmp_path / "frame_1" / "toy / bear.png".replace(" / ", "/"), left=9)
    labels = read_label_set(tmp_path)
    assert labels.kind == "masks" and labels.views["frame_1"].categories == ("cup", "toy/bear")


def test_lerf_ovs_is_read_with_its_picture(tmp_path):
    write_labels(tmp_path / "a.json", ViewLabels("a.jpg", 20, 12, (LabeledObject.from_polygon("cup", SQUARE),)))
    paint(tmp_path / "a.jpg")
    labels = read_label_set(tmp_path)
    assert labels.kind == "lerf-ovs" and labels.views["a"].picture == tmp_path / "a.jpg"


def test_unusable_outlines_are_reported(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    thin = LabeledObject("thread", SQUARE[:2], (2.0, 3.0, 6.0, 8.0))
    far = LabeledObject.from_polygon("ghost", [(x + 100, y) for x, y in SQUARE])
    write_labels(tmp_path / "a.json", ViewLabels("a.jpg", 20, 12, (thin, far)))
    labels = read_label_set(tmp_path)
    assert labels.views["a"].objects == () and len(labels.skipped) == 2
    assert "Skipped 2 unusable labels" in caplog.text


@pytest.mark.parametrize("name", ["nothing", "text"])
def test_folders_of_an_unknown_layout_are_refused(tmp_path, name):
    if name == "text":
        (tmp_path / "labels.csv").write_text("a,b")
    with pytest.raises(GenLangSplatError, match=r"no labels of a known layout.*3D-OVS"):
        read_label_set(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(GenLangSplatError, match="does not exist"):
        read_label_set(tmp_path / "nowhere")


def test_labels_are_found_where_the_data_sets_keep_them(tmp_path):
    scene = tmp_path / "lerf_ovs" / "ramen"
    scene.mkdir(parents=True)
    assert find_label_folder(scene) is None
    (tmp_path / "lerf_ovs" / "label" / "ramen").mkdir(parents=True)
    assert find_label_folder(scene) == tmp_path / "lerf_ovs" / "label" / "ramen"
    (scene / "segmentations").mkdir()
    assert find_label_folder(scene) == scene / "segmentations"


def test_masks_are_scaled_by_nearest_neighbor():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    doubled = ViewLabels("a", 6, 4, (LabeledMask("cup", mask),)).resized(12, 8)
    np.testing.assert_array_equal(doubled.truth("cup").mask, mask.repeat(2, axis=0).repeat(2, axis=1))


def test_masks_are_not_written_as_outlines(tmp_path):
    view = ViewLabels("a", 6, 4, (LabeledMask("cup", np.ones((4, 6), bool)),))
    with pytest.raises(GenLangSplatError, match="mask_polygons first"):
        write_labels(tmp_path / "a.json", view)
