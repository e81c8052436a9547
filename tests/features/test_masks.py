"""Watershed regions are nested partitions into connected regions that follow image edges."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.masks import MASK_GENERATORS, WatershedMaskGenerator, load_mask_generator
from genlangsplat_ns.features.watershed import WatershedSettings, _atoms, _gradient, _working_lab
from genlangsplat_ns.levels import LEVELS


def levels_of(image: torch.Tensor, settings: WatershedSettings | None = None) -> torch.Tensor:
    """Region ids of each level, from 0."""
    regions = WatershedMaskGenerator(settings).generate(image).paint()
    return regions - regions.amin(dim=(1, 2), keepdim=True)


OUTLINES = Path(__file__).parents[1] / "fox_outlines.json"


def read(path: Path, size: tuple[int, int] | None = None) -> torch.Tensor:
    image = Image.open(path).convert("RGB")
    return torch.from_numpy(np.array(image.resize(size) if size else image))


def blobs(height: int, width: int, seed: int, smoothness: float = 3.0) -> torch.Tensor:
    """A random image of smooth colored blobs."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    smooth = ndimage.gaussian_filter(noise, (smoothness, smoothness, 0))
    spread = np.ptp(smooth) or 1.0
    return torch.from_numpy(np.uint8(255 * (smooth - smooth.min()) / spread))


def assert_laws(levels: torch.Tensor, height: int, width: int) -> None:
    assert levels.shape == (len(LEVELS), height, width)
    assert levels.dtype == torch.int32
    for level in levels.numpy():
        assert np.array_equal(np.unique(level), np.arange(level.max() + 1)), (
            "ids are not 0, 1, 2, ... or pixels have none"
        )
        for region in range(level.max() + 1):
            assert ndimage.label(level == region)[1] == 1, "a region falls apart"
    for fine, coarse in zip(levels[:-1].numpy(), levels[1:].numpy(), strict=True):
        assert fine.max() >= coarse.max()
        pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1], "a region lies in two regions of the next level"


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0))
def test_masked_regions_are_nested_connected_partitions_of_the_kept_pixels(height, width, seed, share):
    """Kept areas of less than the size of a seed's window have no region."""
    order = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 4)
    kept = order >= np.quantile(order, share)
    regions = WatershedMaskGenerator().generate(blobs(height, width, seed), torch.from_numpy(kept)).paint().numpy()
    areas, count = ndimage.label(kept)
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    expected = kept & (sizes[areas] >= WatershedSettings().seed_spacing ** 2)
    for level in regions:
        assert np.array_equal(level >= 0, expected)
        assert all(ndimage.label(level == region)[1] == 1 for region in np.unique(level[expected]))
    for fine, coarse in pairwise(regions):
        pairs = np.unique(np.stack([fine[expected], coarse[expected]]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1], "a region lies in two regions of the next level"


def test_the_outline_of_a_mask_is_not_a_border():
    """A plain field stays one region although a masked black bar almost divides it."""
    image = torch.full((60, 80, 3), 150, dtype=torch.uint8)
    kept = torch.ones(60, 80, dtype=torch.bool)
    kept[:50, 35:45] = False
    image[~kept] = 0
    regions = WatershedMaskGenerator().generate(image, kept).paint()
    assert [len(np.unique(level[kept.numpy()])) for level in regions.numpy()] == [1, 1, 1]


def test_masks_of_large_images_are_scaled():
    image, kept = blobs(600, 900, 5), torch.ones(600, 900, dtype=torch.bool)
    kept[211:501, 333:707] = False
    regions = WatershedMaskGenerator(WatershedSettings(working_size=100)).generate(image, kept).paint()
    # Kept pixels that cover less than 1/510 of their working pixel are lost.
    assert float((regions[:, kept] >= 0).float().mean()) > 0.998
    outside = (regions >= 0) & ~kept
    assert not bool(outside[:, 222:490, 344:696].any()), "more than one working pixel beyond the outline"


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 10_000), smoothness=st.floats(0.1, 8.0))
def test_every_picture_falls_into_nested_connected_partitions(height, width, seed, smoothness):
    assert_laws(levels_of(blobs(height, width, seed, smoothness)), height, width)


@pytest.mark.parametrize("size", [(700, 1100), (1100, 30), (481, 640)])
def test_pictures_above_the_working_size_come_back_in_full_size(size):
    assert_laws(levels_of(blobs(*size, seed=0, smoothness=12.0)), *size)


def test_region_counts_are_the_asked_ones_where_the_picture_has_that_many():
    levels = levels_of(blobs(200, 200, seed=1), WatershedSettings(subparts=50, parts=20, wholes=5))
    assert [int(level.max()) + 1 for level in levels] == [50, 20, 5]


def test_a_picture_without_edges_is_one_region():
    assert levels_of(torch.full((90, 70, 3), 117, dtype=torch.uint8)).max() == 0


def test_two_flat_colors_are_two_regions_divided_where_the_color_changes():
    image = torch.full((60, 80, 3), 200, dtype=torch.uint8)
    image[:, 33:] = torch.tensor([30, 60, 200], dtype=torch.uint8)
    levels = levels_of(image)
    truth = (torch.arange(80) >= 33).int().expand(3, 60, 80)
    # The watershed may assign border pixels to either side.
    assert levels.max() == 1
    assert ((levels == levels[:, :1, :1]).int() == truth).float().mean() <= 1.5 / 80


def test_a_gray_picture_is_treated_like_any_other():
    gray = blobs(120, 90, seed=2).float().mean(-1, keepdim=True).expand(-1, -1, 3).to(torch.uint8)
    levels = levels_of(gray)
    assert_laws(levels, 120, 90)
    assert levels[0].max() > 20


def test_a_thin_bar_is_one_region_and_not_a_row_of_pieces():
    image = blobs(120, 160, seed=3, smoothness=6.0) // 8 + 150
    image[60:64] = 10
    level = levels_of(image, WatershedSettings(subparts=12, parts=6, wholes=3))[0]
    assert level[61:63].unique().numel() == 1


def test_the_same_picture_gives_the_same_regions():
    image = blobs(150, 100, seed=4)
    assert torch.equal(levels_of(image), levels_of(image.clone()))


def test_a_version_gives_the_regions_that_stored_features_have():
    """Raise the version when regions change, or features of older regions are reused."""
    rng = np.random.default_rng(1)
    colors = rng.integers(0, 256, (5, 5, 3)).repeat(8, axis=0).repeat(10, axis=1) + rng.integers(0, 6, (40, 50, 3))
    kept = np.zeros((40, 50), dtype=bool)
    for _ in range(6):
        x, y = rng.integers(0, 50), rng.integers(0, 40)
        kept[y : y + rng.integers(4, 12), x : x + rng.integers(4, 12)] = True
    image = torch.from_numpy(colors.clip(0, 255).astype(np.uint8))
    regions = WatershedMaskGenerator().generate(image, torch.from_numpy(kept)).paint()
    found = hashlib.sha256(regions.numpy().tobytes()).hexdigest()[:16]
    assert (WatershedMaskGenerator().settings["version"], found) == (1, "b676baa278869a26")


def test_merging_agrees_with_the_plain_search_for_the_cheapest_pair():
    """Compares the fast merging with a simple one."""
    settings = WatershedSettings(subparts=9, parts=4, wholes=2)
    image = blobs(40, 50, seed=5)
    fast = levels_of(image, settings).numpy()
    lab, inside = _working_lab(image.numpy(), None, settings.working_size, 0)
    regions = _atoms(_gradient(lab, settings.fine_scale), settings.seed_spacing, inside)
    steepness = [
        settings.coarse_scale
        * np.linalg.norm(ndimage.gaussian_filter(lab, (*[settings.coarse_scale] * 2, 0), order=(*order, 0)), axis=-1)
        for order in ((0, 1), (1, 0))
    ]

    def cost(a: int, b: int) -> float:
        strengths = []
        for axis, steep in ((1, steepness[0]), (0, steepness[1])):
            here, there = np.moveaxis(regions, axis, 0)[:-1], np.moveaxis(regions, axis, 0)[1:]
            steep = np.moveaxis(steep, axis, 0)
            across = ((here == a) & (there == b)) | ((here == b) & (there == a))
            edge = np.maximum(steep[:-1], steep[1:])[across]
            strengths += (edge / (edge + settings.half_strength)).tolist()
        if not strengths:
            return np.inf
        areas = (regions == a).sum(), (regions == b).sum()
        return np.mean(strengths) * (areas[0] * areas[1] / sum(areas)) ** settings.area_power

    def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
        return len(np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).T) == len(np.unique(a)) == len(np.unique(b))

    for level, count in zip(fast, (9, 4, 2), strict=True):
        while len(np.unique(regions)) > count:
            ids = np.unique(regions)
            _, a, b = min((cost(a, b), a, b) for a in ids for b in ids if a < b)
            regions[regions == b] = a
        assert same_partition(level, regions)


@pytest.mark.parametrize("name", ["0014", "0031"])
def test_the_fox_comes_out_along_its_outline(shared_data, name):
    """A few regions together match the hand-drawn outline of the fox."""
    frame = next(f for f in json.loads(OUTLINES.read_text())["frames"] if f["name"] == f"{name}.jpg")
    levels = levels_of(read(shared_data / f"fox/images/{name}.jpg", (270, 480))).numpy()
    canvas = Image.new("1", (270, 480))
    ImageDraw.Draw(canvas).polygon([(x / 2, y / 2) for x, y in frame["objects"][0]["segmentation"]], fill=1)
    fox = np.array(canvas)
    for level, least in zip(levels, (0.85, 0.7, 0.5), strict=True):
        share = np.bincount(level[fox], minlength=level.max() + 1) / np.bincount(level.ravel())
        union = (share > 0.5)[level]
        assert (union & fox).sum() / (union | fox).sum() > least


def test_photographs_of_all_shapes_keep_the_laws(shared_data):
    for name in ("photos/astronaut.png", "photos/china.jpg", "mipnerf360_kitchen/images/00.jpg"):
        image = read(shared_data / name)
        levels = levels_of(image)
        assert_laws(levels, *image.shape[:2])
        assert [int(level.max()) + 1 for level in levels] == [120, 40, 12]


def test_generators_are_loaded_by_name():
    generator = load_mask_generator("watershed")
    assert generator.name == "watershed"
    assert json.loads(json.dumps(generator.settings)) == generator.settings


def test_all_settings_tell_stored_features_apart():
    other = WatershedMaskGenerator(WatershedSettings(parts=41)).settings
    assert other != WatershedMaskGenerator().settings
    assert set(other) >= {"version", *WatershedSettings.__dataclass_fields__}


def test_an_unknown_generator_is_answered_with_the_known_ones():
    with pytest.raises(GenLangSplatError, match=", ".join(MASK_GENERATORS)):
        load_mask_generator("magic")


def test_masks_made_elsewhere_name_the_command_that_converts_them():
    with pytest.raises(GenLangSplatError, match="gen-langsplat convert"):
        load_mask_generator("langsplat")
