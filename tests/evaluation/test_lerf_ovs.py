"""LERF-OVS labels: one polygon per object, union of the objects of a category, errors that name the bad file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_files import read_json
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.evaluation.labels import LabeledObject, ViewLabels, mask_polygons
from genlangsplat_ns.evaluation.lerf_ovs import write_labels

SQUARE = ((2.0, 3.0), (6.0, 3.0), (6.0, 8.0), (2.0, 8.0))


def document(**changes):
    """A label file as in the data set, with some top-level entries replaced."""
    entry = {
        "category": "knife",
        "group": 1,
        "segmentation": [[2, 3], [6, 3], [6, 8], [2, 8]],
        "area": 20.0,
        "layer": 1.0,
        "bbox": [2, 3, 6, 8],
        "iscrowd": False,
        "note": "",
    }
    info = {"name": "frame_00053.jpg", "width": 20, "height": 12, "depth": 3, "note": ""}
    return {"info": info, "objects": [entry]} | changes


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read_labels(path):
    (labels,) = read_label_set(path).views.values()
    return labels


def test_reads_a_file_of_the_data_set(tmp_path):
    labels = read_labels(write(tmp_path / "frame_00053.json", document()))
    assert (labels.name, labels.width, labels.height) == ("frame_00053.jpg", 20, 12)
    assert labels.objects == (
        LabeledObject("knife", tuple((float(x), float(y)) for x, y in SQUARE), (2.0, 3.0, 6.0, 8.0)),
    )
    assert labels.skipped == ()


def test_an_outline_is_filled_with_its_border():
    truth = ViewLabels("a.png", 20, 12, (LabeledObject.from_polygon("knife", SQUARE),)).truth("knife")
    expected = np.zeros((12, 20), bool)
    expected[3:9, 2:7] = True
    np.testing.assert_array_equal(truth.mask, expected)


def test_the_truth_of_a_category_is_the_union_of_its_objects_with_all_boxes():
    second = LabeledObject.from_polygon("knife", ((10.0, 1.0), (12.0, 1.0), (12.0, 2.0)))
    other = LabeledObject.from_polygon("spoon", ((15.0, 5.0), (18.0, 5.0), (18.0, 9.0)))
    labels = ViewLabels("a.png", 20, 12, (LabeledObject.from_polygon("knife", SQUARE), other, second))
    assert labels.categories == ("knife", "spoon")
    truth = labels.truth("knife")
    assert truth.mask[4, 4] and truth.mask[1, 12] and not truth.mask[6, 17]
    assert truth.boxes == ((2, 3, 6, 8), (10, 1, 12, 2))


def test_written_labels_are_read_back_equal(tmp_path):
    labels = ViewLabels("0001.png", 20, 12, (LabeledObject.from_polygon("knife", SQUARE),))
    write_labels(tmp_path / "0001.json", labels)
    assert read_labels(tmp_path / "0001.json") == labels


def test_labels_scale_with_the_picture():
    labels = ViewLabels("a.png", 20, 12, (LabeledObject.from_polygon("knife", SQUARE),))
    half = labels.resized(10, 6)
    assert half.objects[0].box == (0.75, 1.25, 2.75, 3.75)
    assert half.truth("knife").mask.shape == (6, 10)
    assert labels.resized(20, 12) is labels


def test_a_mask_survives_outlining_and_filling():
    y, x = np.mgrid[:40, :60]
    mask = ((x - 20) ** 2 + (y - 18) ** 2 < 140) | ((abs(x - 45) < 8) & (abs(y - 20) < 11))
    polygons = mask_polygons(mask)
    assert len(polygons) == 2
    objects = tuple(LabeledObject.from_polygon("it", polygon) for polygon in polygons)
    np.testing.assert_array_equal(ViewLabels("a.png", 60, 40, objects).truth("it").mask, mask)


def test_polygons_ignore_small_components():
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[15:17, 15:17] = True
    assert len(mask_polygons(mask)) == 2
    assert len(mask_polygons(mask, min_pixels=10)) == 1
    assert mask_polygons(np.zeros((20, 20), bool)) == []


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([], "0 distinct points"),
        ([[1, 1], [5, 5]], "2 distinct points"),
        ([[1, 1], [5, 5], [1, 1]], "2 distinct points"),
        ([[30, 1], [40, 1], [40, 5]], "outside"),
        ([[1, -9], [4, -9], [4, -3]], "outside"),
    ],
)
def test_an_outline_that_covers_no_pixel_is_skipped_and_reported(tmp_path, points, reason):
    content = document()
    content["objects"].append(content["objects"][0] | {"category": "ghost", "segmentation": points})
    labels = read_labels(write(tmp_path / "a.json", content))
    assert labels.categories == ("knife",)
    assert len(labels.skipped) == 1 and reason in labels.skipped[0] and "ghost" in labels.skipped[0]


def test_an_outline_across_the_border_is_clipped(tmp_path):
    content = document()
    content["objects"][0]["segmentation"] = [[-5, -5], [3, -5], [3, 4], [-5, 4]]
    mask = read_labels(write(tmp_path / "a.json", content)).truth("knife").mask
    assert mask.sum() == 4 * 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "not valid JSON"),
        ({"info": [], "objects": []}, '"info"'),
        (document(info={"name": "a.jpg", "height": 12}), '"width"'),
        (document(info={"name": "a.jpg", "width": "20", "height": 12}), '"width"'),
        (document(info={"name": "a.jpg", "width": 0, "height": 12}), "0x12"),
        (document(info={"width": 20, "height": 12}), '"name"'),
        (document(objects={}), '"objects"'),
        (document(objects=[{"segmentation": []}]), '"category"'),
        (document(objects=[{"category": " ", "segmentation": [[1, 1]]}]), "blank category"),
        (document(objects=[{"category": "knife"}]), '"segmentation"'),
        (document(objects=[{"category": "knife", "segmentation": [[[1, 1], [2, 2], [3, 1]]]}]), "one list"),
        (document(objects=[{"category": "knife", "segmentation": [1, 2, 3, 4, 5, 6]}]), "one list"),
        (document(objects=[{"category": "knife", "segmentation": [[1, 1], [2, float("nan")], [3, 1]]}]), "finite"),
        (document(objects=[{"category": "knife", "segmentation": [list(p) for p in SQUARE], "bbox": [1, 2]}]), "bbox"),
    ],
)
def test_unusable_files_raise_an_error_that_names_them(tmp_path, content, message):
    path = write(tmp_path / "frame_1.json", content)
    with pytest.raises(GenLangSplatError, match=message) as caught:
        read_labels(path)
    assert "frame_1.json" in str(caught.value)


def test_a_missing_file_raises_an_error(tmp_path):
    with pytest.raises(GenLangSplatError, match="Cannot read"):
        read_json(tmp_path / "none.json")


def test_a_folder_is_keyed_by_the_name_of_the_picture(tmp_path):
    write(tmp_path / "one.json", document())
    assert list(read_label_set(tmp_path).views) == ["frame_00053"]


def test_two_files_of_one_picture_are_refused(tmp_path):
    write(tmp_path / "one.json", document())
    write(tmp_path / "two.json", document())
    with pytest.raises(GenLangSplatError, match="two label files"):
        read_label_set(tmp_path)
