"""Data sets rebuilt after public reports of people with their own data: what the readers of files make of them.

They are no part of the project. The tests of each reader make such files themselves: `tests/views` for cameras, lenses,
names, splits and masks, `tests/evaluation` for labels, `tests/scene_io/test_seed_points.py` for points.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.views.masks import read_mask
from tests.views.scene_files import parse


@pytest.fixture(scope="session")
def report(shared_data: Path) -> Callable[[str], Path]:
    """Returns the data of a report; skips the test if they are not there."""

    def data(name: str) -> Path:
        folder = shared_data / "reports" / name / "data"
        if not folder.is_dir():
            pytest.skip(f"needs the data set of a public report in {folder}, which is not part of the project")
        return folder

    return data


Report = Callable[[str], Path]


def names(outputs: DataparserOutputs) -> list[str]:
    """The photographs of a split."""
    return [path.name for path in outputs.image_filenames]


@pytest.mark.parametrize(
    "case", ["dense-seeds", "same-names", "one-place", "one-place/data/one", "moved-run", "ngp-json"]
)
def test_scenes_in_the_default_format_are_read(report: Report, case: str) -> None:
    name, _, below = case.partition("/data/")
    outputs = parse(NerfstudioDataParserConfig(data=report(name) / below))
    assert len(outputs.image_filenames) == len(set(outputs.image_filenames)) > 0
    assert bool(outputs.cameras.camera_to_worlds.isfinite().all()) and bool((outputs.cameras.fx > 0).all())
    assert all(path.is_file() for path in outputs.image_filenames)


def test_names_without_an_extension_are_found(report: Report, tmp_path: Path) -> None:
    shutil.copytree(report("ngp-json"), tmp_path / "scene")
    (tmp_path / "scene" / "transforms_text2room.json").rename(tmp_path / "scene" / "transforms.json")
    assert names(parse(NerfstudioDataParserConfig(data=tmp_path / "scene")))


@pytest.mark.parametrize("below", ["", "many"])
def test_files_of_instant_ngp_are_read(report: Report, below: str) -> None:
    outputs = parse(InstantNGPDataParserConfig(data=report("ngp-json") / below))
    assert names(outputs) and bool((outputs.cameras.fx > 0).all())


def test_lists_of_splits_count_without_a_list_of_tests(report: Report, tmp_path: Path) -> None:
    shutil.copytree(report("split-lists"), tmp_path / "scene")
    for variant in ("transforms.json", "transforms_train_test.json"):
        shutil.copy(report("split-lists") / variant, tmp_path / "scene" / "transforms.json")
        train, held_out = (
            names(parse(NerfstudioDataParserConfig(data=tmp_path / "scene"), split)) for split in ("train", "val")
        )
        assert train and held_out and not set(train) & set(held_out)


def test_lists_of_splits_beside_a_colmap_model_count(report: Report) -> None:
    folder = report("split-lists")
    config = ColmapDataParserConfig(data=folder, colmap_path=Path("sparse/0"))
    listed = (folder / "test_list.txt").read_text().split()
    assert sorted(names(parse(config, "test"))) == sorted(Path(name).name for name in listed)


def test_the_layout_of_inria_and_langsplat_is_read(report: Report) -> None:
    by_default = parse(ColmapDataParserConfig(data=report("inria-layout")))
    assert names(by_default) == names(parse(NerfstudioDataParserConfig(data=report("inria-layout"))))
    assert len(by_default.metadata["points3D_xyz"])


@pytest.mark.parametrize("model", ["FULL_OPENCV", "THIN_PRISM_FISHEYE"])
def test_lenses_that_calibrated_rigs_use_are_read_or_refused_with_the_way_out(report: Report, model: str) -> None:
    config = ColmapDataParserConfig(data=report("full-opencv"), colmap_path=Path(model) / "sparse" / "0")
    try:
        assert names(parse(config))
    except GenLangSplatError as error:
        assert "colmap image_undistorter" in str(error)


@pytest.mark.parametrize("kind", ["bent", "equidistant"])
def test_fisheye_lenses_with_masks_are_read(report: Report, kind: str) -> None:
    outputs = parse(NerfstudioDataParserConfig(data=report("fisheye") / kind))
    assert outputs.mask_filenames is not None and all(path.is_file() for path in outputs.mask_filenames if path)


def test_color_masks_mean_the_same_as_gray_ones(report: Report) -> None:
    folder = report("masks-rgb")
    masks = sorted((folder / "masks").glob("*.png"))
    assert masks
    for mask in masks[:3]:
        gray = folder / "grey" / mask.name
        kept = read_mask(mask, _size_of(mask))
        assert 0 < kept.mean() < 1
        if gray.is_file():
            assert np.array_equal(kept, read_mask(gray, _size_of(gray)))


def _size_of(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


def test_mattes_are_read_in_both_layouts(report: Report) -> None:
    assert names(parse(NerfstudioDataParserConfig(data=report("rgba-matte"))))
    assert names(parse(BlenderDataParserConfig(data=report("rgba-matte"))))
    assert read_label_set(report("rgba-matte") / "labels").views


@pytest.mark.parametrize("kind", ["isat", "labelme", "coco"])
def test_own_labels_of_every_tool_name_the_same_views(report: Report, kind: str) -> None:
    labels = read_label_set(report("own-labels") / kind)
    assert len(labels.views) == 3 and all(view.objects for view in labels.views.values())
    for view in labels.views.values():
        assert all(item.pixels(view.width, view.height).any() for item in view.objects)


def test_labels_of_photographs_with_the_same_names_are_told_apart(report: Report) -> None:
    labels = read_label_set(report("same-names") / "labels")
    assert len(labels.views) == sum(1 for _ in (report("same-names") / "labels").rglob("*.json"))
