"""Labels in formats that are not read are named by what they look like, with the way to labels that are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import read_label_set
from tests.evaluation.label_writers import isat, write_json

POINTS = {"exterior": [[1, 2], [5, 2], [5, 6]], "interior": []}


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ([{"id": 1, "annotations": [], "data": {"image": "a.jpg"}}], "Label Studio's own JSON"),
        ([{"image": "a.jpg", "id": 1, "label": [{"polygonlabels": ["cup"]}]}], "Label Studio's own JSON"),
        ({"a.jpg1234": {"filename": "a.jpg", "size": 1234, "regions": []}}, "VGG Image Annotator"),
        ({"_via_settings": {}, "_via_img_metadata": {}}, "VGG Image Annotator"),
        ({"size": {"height": 3, "width": 4}, "objects": [{"classTitle": "cup", "points": POINTS}]}, "Supervisely"),
        ({"imgHeight": 3, "imgWidth": 4, "objects": [{"label": "cup", "polygon": []}]}, "Cityscapes"),
        ({"version": "2.0", "item": {"name": "a.jpg"}, "annotations": []}, "Darwin JSON of V7"),
        ({"info": {}, "categories": {}, "items": []}, "Datumaro"),
        ([{"image": "a.jpg", "annotations": [{"label": "cup", "coordinates": {}}]}], "CreateML"),
        ([{"version": 0, "tags": [], "shapes": [], "tracks": []}], "CVAT"),
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "results in the format of COCO"),
        ({"images": [], "annotations": [{"segments_info": []}], "categories": []}, "COCO panoptic"),
        ({"camera_model": "OPENCV", "frames": [{"file_path": "a.jpg"}]}, r"cameras \(transforms\.json\)"),
    ],
)
def test_json_of_other_tools_is_named(tmp_path, document, name):
    path = write_json(tmp_path / "export.json", document)
    for source in (tmp_path, path):
        with pytest.raises(GenLangSplatError, match=rf"export\.json looks like .*{name}.* COCO"):
            read_label_set(source)


@pytest.mark.parametrize(
    ("document", "content"),
    [
        ({"pictures": 1, "things": 2}, "has the keys 'pictures', 'things'"),
        ({}, "has the keys none"),
        ([{"picture": 1}], "is a list whose first element has the keys 'picture'"),
        ([], "is a list"),
        ("text", "is a str"),
    ],
)
def test_unknown_json_is_described_by_its_keys(tmp_path, document, content):
    path = write_json(tmp_path / "export.json", document)
    with pytest.raises(GenLangSplatError, match=rf"export\.json has no labels of a known format: its JSON .*{content}"):
        read_label_set(path)


VOC = "<annotation>\n <filename>a.jpg</filename>\n <object><name>cup</name></object>\n</annotation>"
CVAT = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n <version>1.1</version>\n</annotations>'


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("a.txt", "0 0.5 0.5 0.2 0.1\n1 0.1 0.2 0.1 0.1\n", "YOLO"),
        ("labels/train/a.txt", "12 0.1 0.2 0.3 0.2 0.3 4e-05 0.1 0.4\n", "YOLO"),
        ("a.xml", VOC, "Pascal VOC XML"),
        ("annotations.xml", CVAT, "CVAT XML"),
        ("via.csv", "filename,file_size,region_shape_attributes\n", "a CSV of VGG Image Annotator"),
        ("export.zip", "PK", "an archive"),
        ("labels.npy", "x", r"a \.npy file"),
    ],
)
def test_other_files_are_named(tmp_path, file, text, name):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "classes.txt").write_text("cup\nspoon\n")
    (tmp_path / "README.md").write_text("0 0.5 0.5 0.2 0.1")
    path.write_text(text)
    for source in (tmp_path, path):
        with pytest.raises(GenLangSplatError, match=f"{path.name} looks like {name}"):
            read_label_set(source)


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.eye(12, dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("frame_1.png", "a picture of class numbers"),
        ("gtFine/bonn/bonn_000_gtFine_labelIds.png", "Cityscapes label images"),
        ("SegmentationClass/frame_1.png", "Pascal VOC segmentation masks"),
    ],
)
def test_pictures_of_class_numbers_are_named(tmp_path, file, name):
    write_image(tmp_path / file)
    with pytest.raises(GenLangSplatError, match=f"looks like {name}"):
        read_label_set(tmp_path)


def test_masks_next_to_yolo_labels_are_not_taken_for_labels(tmp_path):
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "classes.txt").write_text("cup\n")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.1\n")
    with pytest.raises(GenLangSplatError, match=r"a\.txt looks like YOLO"):
        read_label_set(tmp_path)


def test_another_json_between_masks_does_not_matter(tmp_path):
    write_image(tmp_path / "frame_1" / "cup.png")
    write_json(tmp_path / "frame_1" / "info.json", {"author": "me"})
    assert read_label_set(tmp_path).views["frame_1"].categories == ("cup",)


def test_a_foreign_file_between_labels_is_named(tmp_path):
    write_json(tmp_path / "a.json", isat())
    write_json(tmp_path / "b.json", {"_via_img_metadata": {}})
    with pytest.raises(GenLangSplatError, match=r"b\.json looks like a project of VGG"):
        read_label_set(tmp_path)


def test_a_file_without_labels_is_refused(tmp_path):
    (tmp_path / "labels.md").write_text("cup")
    with pytest.raises(GenLangSplatError, match=r"labels\.md is no label file"):
        read_label_set(tmp_path / "labels.md")
