"""One drawn object has the same truth in every label format; what is no label is skipped, and what is broken named."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.coco import decompress, mask_of_runs
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.evaluation.labels import LabeledObject
from tests.evaluation.label_writers import (
    CORNERS,
    HEIGHT,
    WIDTH,
    annotation,
    coco,
    compressed,
    isat,
    labelme,
    png,
    run_lengths,
    shape,
    write_json,
)

CUP = LabeledObject.from_polygon("cup", CORNERS).pixels(WIDTH, HEIGHT)
FLAT = [float(value) for corner in CORNERS for value in corner]
RUNS = run_lengths(CUP)
LEFT, TOP, RIGHT, BOTTOM = 2.0, 3.0, 9.0, 10.0
PART = png(CUP[3:11, 2:10].astype(np.uint8) * 255)
SQUARE = [[LEFT, TOP], [RIGHT, TOP], [RIGHT, BOTTOM], [LEFT, BOTTOM]]


def read(path):
    """The labels of the only view."""
    (view,) = read_label_set(path).views.values()
    return view


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("lerf-ovs", isat()),
        ("lerf-ovs", isat("frame_1", folder="C:/Users/me/images")),
        ("labelme", labelme(shape())),
        ("labelme", labelme(shape(kind=None), imageData="", name="..\\images\\frame_1.jpg")),
        ("labelme", labelme(shape([[LEFT, TOP], [RIGHT, BOTTOM]], "mask", mask=PART))),
        ("coco", coco(annotation([FLAT]))),
        ("coco", coco(annotation(FLAT))),
        ("coco", coco(annotation([CORNERS]))),
        ("coco", coco(annotation([FLAT, FLAT], iscrowd=1))),
        ("coco", coco(annotation({"size": [HEIGHT, WIDTH], "counts": RUNS}, iscrowd=1))),
        ("coco", coco(annotation({"size": [HEIGHT, WIDTH], "counts": compressed(RUNS)}))),
    ],
)
@pytest.mark.parametrize("as_file", [False, True])
def test_every_format_gives_the_same_truth(tmp_path, kind, document, as_file):
    path = write_json(tmp_path / "labels" / "frame_1.json", document)
    labels = read_label_set(path if as_file else path.parent)
    assert labels.kind == kind and list(labels.views) == ["frame_1"] and labels.skipped == ()
    view = labels.views["frame_1"]
    assert (view.width, view.height, view.categories) == (WIDTH, HEIGHT, ("cup",))
    assert view.name.rpartition("/")[2] in ("frame_1.jpg", "frame_1")
    truth = view.truth("cup")
    np.testing.assert_array_equal(truth.mask, CUP)
    assert truth.boxes == ((LEFT, TOP, RIGHT, BOTTOM),)


@pytest.mark.parametrize(
    "document",
    [
        labelme(shape([[RIGHT, BOTTOM], [LEFT, TOP]], "rectangle")),
        labelme(shape(SQUARE, "rectangle")),
        coco(annotation([], bbox=[LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP])),
        coco(annotation([[]], bbox=[LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP])),
        coco(annotation([[float(value) for corner in SQUARE for value in corner]])),
    ],
)
def test_rectangles_and_boxes_are_outlines(tmp_path, document):
    expected = LabeledObject.from_polygon("cup", SQUARE).pixels(WIDTH, HEIGHT)
    np.testing.assert_array_equal(read(write_json(tmp_path / "a.json", document)).truth("cup").mask, expected)


def test_a_box_that_replaces_an_outline_is_noted(tmp_path, caplog):
    boxed = [annotation([], bbox=[2, 3, 4, 5]), annotation([FLAT], bbox=[2, 3, 4, 5])]
    labels = read_label_set(write_json(tmp_path / "a.json", coco(*boxed)))
    assert labels.skipped == () and len(labels.notes) == 1
    assert "1 objects in frame_1.jpg have only a box" in labels.notes[0] and "only a box" in caplog.text


def test_numbers_are_read_as_programs_write_them(tmp_path):
    """Sizes with a decimal point, and classes that are numbers."""
    document = coco(annotation([FLAT]))
    document["images"][0] |= {"width": float(WIDTH), "height": float(HEIGHT)}
    np.testing.assert_array_equal(read(write_json(tmp_path / "a.json", document)).truth("cup").mask, CUP)
    number = labelme(shape())
    number["shapes"][0]["label"] = 7
    assert read(write_json(tmp_path / "b" / "frame_1.json", number)).categories == ("7",)


def test_a_circle_is_filled_around_its_center(tmp_path):
    view = read(write_json(tmp_path / "a.json", labelme(shape([[9, 6], [13, 6]], "circle"))))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(columns - 9, rows - 6)
    mask = view.truth("cup").mask
    assert mask[distance <= 3.5].all() and not mask[distance > 4.6].any()


def test_the_polygons_of_one_annotation_are_one_object(tmp_path):
    second = [12.0, 1.0, 15.0, 1.0, 15.0, 4.0, 12.0, 4.0]
    truth = read(write_json(tmp_path / "a.json", coco(annotation([FLAT, second])))).truth("cup")
    expected = CUP.copy()
    expected[1:5, 12:16] = True
    np.testing.assert_array_equal(truth.mask, expected)
    assert truth.boxes == ((2, 1, 15, 10),)


@pytest.mark.parametrize("corner", [(-3, 2), (15, 9), (-2, -4), (40, 40)])
def test_a_mask_across_the_border_is_clipped(tmp_path, corner):
    left, top = corner
    points = [[left, top], [left + 7, top + 7]]
    labels = read_label_set(write_json(tmp_path / "a.json", labelme(shape(points, "mask", mask=PART))))
    expected = np.zeros((100, 100), bool)
    expected[top + 40 : top + 48, left + 40 : left + 48] = CUP[3:11, 2:10]
    expected = expected[40 : 40 + HEIGHT, 40 : 40 + WIDTH]
    view = labels.views["frame_1"]
    np.testing.assert_array_equal(view.truth("cup").mask, expected)
    assert len(labels.skipped) == (not expected.any())


@pytest.mark.parametrize("category", ["__background__", "_background_", "__ignore__"])
def test_the_tools_own_classes_are_silently_skipped(tmp_path, category):
    documents = (
        isat(category=category),
        labelme(shape(label=category)),
        coco(annotation([FLAT], category=2)),
    )
    for number, document in enumerate(documents):
        labels = read_label_set(write_json(tmp_path / str(number) / "a.json", document))
        assert labels.views["frame_1"].categories == () and labels.skipped == ()


def test_a_class_called_background_by_the_user_is_a_label(tmp_path):
    assert read(write_json(tmp_path / "a.json", isat(category="background"))).categories == ("background",)


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip"])
def test_shapes_without_area_are_skipped_and_listed(tmp_path, kind):
    document = labelme(shape(), shape(CORNERS[:2], kind, label="seam"))
    view = read(write_json(tmp_path / "a.json", document))
    assert view.categories == ("cup",)
    assert view.skipped == (f"a.json, shape 2 (seam): the shape {kind} has no area",)


@pytest.mark.parametrize(
    "document",
    [
        labelme(shape([[1, 1], [5, 5]])),
        labelme(shape([[50, 1], [60, 1], [60, 5]])),
        labelme(shape([[1, 1], [4e9, 1], [4, 5]])),
        coco(annotation([[1, 1, 5, 5]])),
        coco(annotation([], bbox=[3, 3, 0, 5])),
        coco(annotation([])),
        coco(annotation({"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT]})),
    ],
)
def test_objects_that_cover_no_pixel_are_skipped_and_listed(tmp_path, document):
    labels = read_label_set(write_json(tmp_path / "a.json", document))
    assert labels.views["frame_1"].objects == () and len(labels.skipped) == 1
    assert "a.json" in labels.skipped[0] and "cup" in labels.skipped[0]


def test_old_labelme_files_state_their_size_by_the_image(tmp_path):
    gray = np.zeros((HEIGHT, WIDTH), np.uint8)
    document = labelme(shape(), imageHeight=None, imageWidth=None)
    beside = write_json(tmp_path / "frame_1.json", document)
    with pytest.raises(GenLangSplatError, match="imageWidth"):
        read(beside)
    Image.fromarray(gray).save(tmp_path / "frame_1.png")
    inside = write_json(tmp_path / "b" / "a.json", document | {"imageData": png(gray)})
    for path in (beside, inside):
        view = read(path)
        assert (view.width, view.height) == (WIDTH, HEIGHT)
    assert read(beside).picture == tmp_path / "frame_1.png"


def test_images_of_coco_without_annotations_are_ignored(tmp_path):
    document = coco(annotation([FLAT], image=2), names=("a.jpg", "images/b.jpg"))
    view = read(write_json(tmp_path / "a.json", document))
    assert view.name == "images/b.jpg"


def test_files_of_coco_in_one_folder_are_joined(tmp_path):
    write_json(tmp_path / "annotations" / "a.json", coco(annotation([FLAT])))
    write_json(
        tmp_path / "annotations" / "b.json", coco(annotation([FLAT], image=2), names=("other.jpg", "frame_1.jpg"))
    )
    write_json(tmp_path / "annotations" / "c.json", coco(annotation([FLAT]), names=("frame_2.jpg",)))
    labels = read_label_set(tmp_path)
    assert set(labels.views) == {"frame_1", "frame_2"}
    assert len(labels.views["frame_1"].truth("cup").boxes) == 2


def test_files_of_coco_that_disagree_about_a_photograph_are_refused(tmp_path):
    other = coco(annotation([FLAT]))
    other["images"][0]["width"] = 40
    write_json(tmp_path / "a.json", coco(annotation([FLAT])))
    write_json(tmp_path / "b.json", other)
    with pytest.raises(GenLangSplatError, match=r"20x12 pixels in the labels .*a\.json and 40x12 in .*b\.json"):
        read_label_set(tmp_path)


def test_a_known_string_of_run_lengths_is_decompressed():
    # The example of COCO's tools, of an image of 9 rows and 10 columns.
    counts = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    assert decompress("61X13mN000`0") == counts == decompress(compressed(counts))
    assert mask_of_runs("61X13mN000`0", 10, 9).sum() == 13


def test_run_lengths_of_random_masks_survive(rng):
    for _ in range(50):
        height, width = rng.integers(1, 40, 2).tolist()
        mask = rng.random((height, width)) < rng.random()
        counts = run_lengths(mask)
        assert decompress(compressed(counts)) == counts
        np.testing.assert_array_equal(mask_of_runs(counts, width, height), mask)
    large = [3, 5_000_000, 1, 40, 77_000_000]
    assert decompress(compressed(large)) == large


def test_formats_are_not_mixed(tmp_path):
    write_json(tmp_path / "labelme" / "a.json", labelme(shape()))
    write_json(tmp_path / "coco" / "all.json", coco(annotation([FLAT])))
    with pytest.raises(GenLangSplatError, match=r"several formats: coco .*all\.json.* and labelme .*a\.json"):
        read_label_set(tmp_path)
    assert read_label_set(tmp_path / "coco").kind == "coco"


def test_what_macs_and_tools_leave_between_labels_is_ignored(tmp_path):
    write_json(tmp_path / "a.json", isat())
    for name in ("._a.json", ".cache/b.json", "__MACOSX/._a.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "isat.yaml").write_text("label:\n- name: cup\n")
    assert list(read_label_set(tmp_path).views) == ["frame_1"]


BROKEN_RUNS = {"size": [HEIGHT, WIDTH], "counts": RUNS[:-1]}
BOMB = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\x00" * 50).decode()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (labelme({"points": CORNERS}), '"label"'),
        (labelme("shape"), '"label"'),
        (labelme(shape(label=" ")), "blank category"),
        (labelme(shape("corners")), '"points"'),
        (labelme(shape([[1, 2], [3, "4"], [5, 6]])), "not one list"),
        (labelme(shape([[1, 2], [3], [5, 6]])), "not one list"),
        (labelme(shape([[1, 2], [3, float("nan")], [5, 6]])), "NaN"),
        (labelme(shape(CORNERS, "circle")), "5 points"),
        (labelme(shape(CORNERS, "rectangle")), "5 points"),
        (labelme(shape(SQUARE[:2], "mask", mask="no base64!")), "base64"),
        (labelme(shape(SQUARE[:2], "mask", mask=BOMB)), "cannot be read as an image"),
        (labelme(shape(SQUARE[:2], "mask")), "mask of shape 1"),
        (labelme(shape(SQUARE[:2], "mask", mask=png(np.ones((99, 3), np.uint8)))), "3x99"),
        (labelme(shape(), imageWidth="20"), '"imageWidth"'),
        (labelme(shape(), imageWidth=10**6, imageHeight=10**6), "pixels"),
        (coco(annotation([FLAT], image=7)), "does not list"),
        (coco(annotation([FLAT], category=7)), "category 7"),
        (coco(annotation([FLAT], image=[1])), '"image_id"'),
        (coco(annotation("outline")), "no list of polygons"),
        (coco(annotation([FLAT[:-1]])), "odd number"),
        (coco(annotation([FLAT, 3])), "no list of polygons"),
        (coco(annotation([], bbox=[1, 2, 3])), '"bbox"'),
        (coco(annotation([], bbox=[1, 2, float("inf"), 4])), "infinite"),
        (coco(annotation({"counts": RUNS})), "size None"),
        (coco(annotation({"size": [WIDTH, HEIGHT], "counts": RUNS})), r"size \[20, 12\]"),
        (coco(annotation(BROKEN_RUNS)), "add up"),
        (coco(annotation(BROKEN_RUNS | {"counts": [1, -1]})), "whole numbers"),
        (coco(annotation(BROKEN_RUNS | {"counts": None})), "whole numbers"),
        (coco(annotation(BROKEN_RUNS | {"counts": "o" * 30})), "wrong place"),
        (coco(annotation(BROKEN_RUNS | {"counts": "o"})), "truncated"),
        (coco(annotation(BROKEN_RUNS | {"counts": "a\u00e9"})), "wrong place"),
        (coco(annotation([FLAT])) | {"categories": None}, '"categories"'),
        (coco(annotation([FLAT]), names=("",)), "blank"),
    ],
)
def test_broken_files_raise_an_error_that_names_them(tmp_path, document, message):
    path = tmp_path / "broken.json"
    content = document if isinstance(document, (str, bytes)) else json.dumps(document)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(GenLangSplatError, match=message) as caught:
        read_label_set(tmp_path)
    assert "broken.json" in str(caught.value)
