"""The gallery data set: complete, exactly labeled, and reproducible."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.demo import photographs
from genlangsplat_ns.demo.gallery import (
    EVAL_INTERVAL,
    MIN_VISIBLE_SHARE,
    QUERIES,
    GallerySettings,
    build_gallery,
    camera_path,
    label_view,
)
from genlangsplat_ns.demo.photographs import Photograph
from genlangsplat_ns.demo.raycast import Pinhole, render
from genlangsplat_ns.demo.room import CATEGORIES, build_room
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import read_label_set


def read_points(path):
    header, _, body = path.read_bytes().partition(b"end_header\n")
    kinds = {b"float": "<f4", b"uchar": "u1"}
    fields = [line.split()[1:] for line in header.splitlines() if line.startswith(b"property")]
    return np.frombuffer(body, [(name.decode(), kinds[kind]) for kind, name in fields])


def test_the_data_set_is_complete(gallery):
    transforms = json.loads((gallery / "transforms.json").read_text())
    files = [frame["file_path"] for frame in transforms["frames"]]
    assert len(files) == 10
    for file in files:
        assert Image.open(gallery / file).size == (transforms["w"], transforms["h"]) == (160, 120)
    assert sorted(transforms["train_filenames"] + transforms["val_filenames"]) == files
    assert transforms["test_filenames"] == transforms["val_filenames"]
    assert len(transforms["val_filenames"]) == 10 // EVAL_INTERVAL
    assert (gallery / transforms["ply_file_path"]).is_file()


def test_every_view_is_labeled_at_its_own_size(gallery):
    labels = read_label_set(gallery / "labels").views
    assert sorted(f"{stem}.png" for stem in labels) == sorted(path.name for path in (gallery / "images").iterdir())
    for view in labels.values():
        assert (view.width, view.height) == (160, 120) and not view.skipped
        assert len(view.categories) >= 4


def test_every_category_is_visible_and_queried(gallery):
    shown = {category for view in read_label_set(gallery / "labels").views.values() for category in view.categories}
    asked = {query.category for query in QUERIES}
    assert shown == asked == set(CATEGORIES)
    assert len({query.text for query in QUERIES}) == len(QUERIES) >= 8


def test_labels_cover_exactly_what_is_visible():
    camera = Pinhole(240, 180, focal=180.0)
    surfaces = build_room(seed=0)
    compared = 0
    for pose in camera_path(4, np.random.default_rng(3)):
        rendering = render(surfaces, pose, camera, len(CATEGORIES))
        labels = label_view("a.png", rendering)
        for category, coverage in zip(CATEGORIES, rendering.coverage, strict=True):
            visible = coverage >= 0.5
            if category not in labels.categories:
                continue
            compared += 1
            truth = labels.truth(category)
            union = np.count_nonzero(truth.mask | visible)
            assert np.count_nonzero(truth.mask & visible) / union > 0.98
            assert len(truth.boxes) >= 1
    assert compared >= 15


def test_mostly_hidden_objects_are_not_labeled():
    camera = Pinhole(240, 180, focal=180.0)
    surfaces = build_room(seed=0)
    slivers = 0
    for pose in camera_path(12, np.random.default_rng(3)):
        rendering = render(surfaces, pose, camera, len(CATEGORIES))
        labels = label_view("a.png", rendering)
        for category, coverage, extent in zip(CATEGORIES, rendering.coverage, rendering.extent, strict=True):
            if coverage.sum() < MIN_VISIBLE_SHARE * extent:
                assert category not in labels.categories
                slivers += coverage.sum() > 0
            elif coverage.sum() > 100:
                assert category in labels.categories
    assert slivers >= 3


def test_objects_occlude_each_other():
    surfaces = build_room(seed=0)
    camera = Pinhole(200, 150, focal=144.0)
    pose = camera_path(11, np.random.default_rng(0))[5]
    together = render(surfaces, pose, camera, len(CATEGORIES)).coverage.sum(axis=(1, 2))
    hidden = 0
    for label in range(len(CATEGORIES)):
        alone = [surface for surface in surfaces if surface.label == label]
        coverage = render(alone, pose, camera, len(CATEGORIES)).coverage[label].sum()
        assert together[label] <= coverage + 1e-3
        hidden += together[label] < 0.98 * coverage
    assert hidden >= 1


def test_seed_points_are_visible_in_training_views(gallery):
    points = read_points(gallery / "sparse_pc.ply")
    transforms = json.loads((gallery / "transforms.json").read_text())
    assert len(points) == 2000
    positions = np.stack([points[axis] for axis in "xyz"], axis=1)
    colors = np.stack([points[name] for name in ("red", "green", "blue")], axis=1).astype(float)
    explained = np.zeros(len(points), bool)
    for frame in transforms["frames"]:
        if frame["file_path"] in transforms["val_filenames"]:
            continue
        picture = np.asarray(Image.open(gallery / frame["file_path"])).astype(float)
        pose = np.array(frame["transform_matrix"])
        local = (positions - pose[:3, 3]) @ pose[:3, :3]
        x = transforms["cx"] - transforms["fl_x"] * local[:, 0] / local[:, 2]
        y = transforms["cy"] + transforms["fl_y"] * local[:, 1] / local[:, 2]
        inside = (local[:, 2] < 0) & (x >= 0) & (y >= 0) & (x < 160) & (y < 120)
        seen = picture[y[inside].astype(int), x[inside].astype(int)]
        explained[inside] |= (seen == colors[inside]).all(axis=1)
    assert explained.mean() > 0.99


def test_the_same_seed_gives_the_same_files(tmp_path):
    settings = GallerySettings(num_views=5, width=48, height=36, num_points=50)
    first, again = build_gallery(tmp_path / "a", settings), build_gallery(tmp_path / "b", settings)
    other = build_gallery(tmp_path / "c", GallerySettings(num_views=5, width=48, height=36, num_points=50, seed=1))
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(names) == 5 + 5 + 2
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes()
    assert (first / "images/0001.png").read_bytes() != (other / "images/0001.png").read_bytes()


def test_pictures_are_neither_dark_nor_flat(gallery):
    for path in (gallery / "images").iterdir():
        picture = np.asarray(Image.open(path)).astype(float)
        assert 70 < picture.mean() < 190 and picture.std() > 30


@pytest.mark.parametrize("changes", [{"num_views": 3}, {"width": 8}, {"num_points": 0}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(GenLangSplatError, match="needs at least"):
        GallerySettings(**changes)


def test_all_photographs_are_in_the_installed_packages():
    for name, photograph in vars(photographs).items():
        if isinstance(photograph, Photograph):
            picture = photograph.load()
            left, top, right, bottom = photograph.crop
            assert picture.shape == (bottom - top, right - left, 3) and picture.std() > 0.05, name


@pytest.mark.parametrize("package", ["skimage", "no_such_package"])
def test_a_missing_photograph_is_reported_with_an_install_command(package):
    with pytest.raises(GenLangSplatError, match=r"unicorn.png.*pip install"):
        Photograph(package, "data/unicorn.png", (0, 0, 1, 1)).load()
