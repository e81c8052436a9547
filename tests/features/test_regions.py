"""Masks: pixels, painting order, and crops like LangSplat's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genlangsplat_ns.features.regions import RegionMask, ViewMasks, cut_out

SEEDS = st.integers(0, 10_000)
SIDES = st.integers(1, 24)


def random_pixels(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """At least one random pixel inside a random box."""
    pixels = np.zeros((height, width), dtype=bool)
    top, left = rng.integers(height), rng.integers(width)
    bottom, right = rng.integers(top, height) + 1, rng.integers(left, width) + 1
    pixels[top:bottom, left:right] = rng.random((bottom - top, right - left)) < rng.choice([0.2, 0.8, 1.0])
    pixels[rng.integers(top, bottom), rng.integers(left, right)] = True
    return pixels


def random_masks(seed: int, height: int, width: int, count: int) -> tuple[ViewMasks, list[np.ndarray]]:
    """Overlapping masks, and their pixels in the view."""
    rng = np.random.default_rng(seed)
    dense = [random_pixels(rng, height, width) for _ in range(count)]
    masks = [RegionMask.from_pixels(int(rng.integers(3)), pixels) for pixels in dense]
    return ViewMasks(height, width, 3, masks), dense


def view_of(*layers: tuple[int, list[str]]) -> ViewMasks:
    """Masks drawn with x, each with its level."""
    drawn = [(level, np.array([[letter == "x" for letter in row] for row in rows])) for level, rows in layers]
    height, width = drawn[0][1].shape
    return ViewMasks(height, width, 2, [RegionMask.from_pixels(level, pixels) for level, pixels in drawn])


def square_of(pixels: torch.Tensor, mask: RegionMask) -> np.ndarray:
    """LangSplat's crop: the masked region in the center of a black square, (side, side, 3)."""
    alone = np.where(mask.pixels(*pixels.shape[1:])[..., None], pixels.permute(1, 2, 0).numpy(), 0)[mask.box]
    height, width = alone.shape[:2]
    length = max(height, width)
    square = np.zeros((length, length, 3), dtype=np.uint8)
    top, left = (length - height) // 2, (length - width) // 2
    square[top : top + height, left : left + width] = alone
    return square


@given(height=SIDES, width=SIDES, top=st.integers(0, 9), left=st.integers(0, 9), seed=SEEDS)
def test_a_mask_gives_back_the_pixels_it_was_taken_from(height, width, top, left, seed):
    pixels = random_pixels(np.random.default_rng(seed), height, width)
    mask = RegionMask.from_pixels(1, pixels, top, left)
    expected = np.pad(pixels, ((top, 0), (left, 0)))
    assert np.array_equal(mask.pixels(top + height, left + width), expected)
    assert mask.level == 1
    assert mask.area == pixels.sum()


@given(height=SIDES, width=SIDES, seed=SEEDS)
def test_the_box_of_a_mask_is_the_smallest_one(height, width, seed):
    pixels = random_pixels(np.random.default_rng(seed), height, width)
    mask = RegionMask.from_pixels(0, pixels)
    assert mask.inside[0].any() and mask.inside[-1].any() and mask.inside[:, 0].any() and mask.inside[:, -1].any()
    assert pixels[mask.box].sum() == pixels.sum()


def test_a_mask_does_not_keep_the_image_it_was_taken_from():
    pixels = np.ones((4, 4), dtype=bool)
    mask = RegionMask.from_pixels(0, pixels)
    pixels[:] = False
    assert mask.area == 16


@given(height=SIDES, width=SIDES, seed=SEEDS, highest=st.sampled_from([0, 1, 5, 1000]))
def test_a_map_of_ids_is_painted_as_it_was_read_with_regions_counted_through(height, width, seed, highest):
    rng = np.random.default_rng(seed)
    ids = rng.integers(-3, highest + 1, (3, height, width)).astype(np.int32)
    masks = ViewMasks.from_ids(ids)
    expected, count = np.full_like(ids, -1), 0
    for level in range(3):
        for number in np.unique(ids[level][ids[level] >= 0]):
            expected[level][ids[level] == number] = count
            count += 1
    assert (masks.height, masks.width, masks.num_levels, len(masks)) == (height, width, 3, count)
    assert masks.paint().dtype == torch.int32
    assert np.array_equal(masks.paint().numpy(), expected)


def test_a_map_without_any_region_gives_no_masks():
    masks = ViewMasks.from_ids(np.full((3, 4, 5), -1, dtype=np.int32))
    assert len(masks) == 0
    assert torch.equal(masks.paint(), torch.full((3, 4, 5), -1, dtype=torch.int32))


@given(height=SIDES, width=SIDES, count=st.integers(0, 12), seed=SEEDS)
def test_the_last_of_a_level_s_masks_lies_on_top(height, width, count, seed):
    masks, dense = random_masks(seed, height, width, count)
    painted = masks.paint().numpy()
    for level, row, column in np.ndindex(3, height, width):
        there = [n for n in range(count) if masks.masks[n].level == level and dense[n][row, column]]
        assert painted[level, row, column] == max(there, default=-1)


def test_levels_do_not_hide_each_other():
    masks = view_of((0, ["xx.", "xx."]), (1, [".xx", ".xx"]), (0, [".xx", "..."]))
    assert masks.paint().tolist() == [[[0, 2, 2], [0, 0, -1]], [[-1, 1, 1], [-1, 1, 1]]]


@given(height=st.integers(1, 6), width=st.integers(1, 6), count=st.integers(0, 12), seed=SEEDS)
def test_visible_masks_are_those_that_show_and_look_the_same(height, width, count, seed):
    masks, _ = random_masks(seed, height, width, count)
    before, visible = masks.paint().numpy(), masks.visible()
    shown = [masks.masks[number] for number in range(count) if (before == number).any()]
    assert len(visible) == len(shown)
    assert all(kept is mask for kept, mask in zip(visible.masks, shown, strict=True))
    # The regions are renumbered in order.
    after = np.searchsorted(np.unique(before[before >= 0]), before)
    assert np.array_equal(visible.paint().numpy(), np.where(before < 0, -1, after))


def test_a_mask_that_is_covered_by_two_others_together_is_not_visible():
    masks = view_of((0, ["xxx"]), (0, ["xx."]), (0, ["..x"]), (1, ["xxx"]))
    assert [masks.masks.index(mask) for mask in masks.visible().masks] == [1, 2, 3]


@pytest.mark.parametrize("levels", [[], [0], [1], [2, 0], [0, 1, 2]])
def test_choosing_levels_leaves_the_others_empty(levels):
    masks, _ = random_masks(3, 20, 30, 12)
    chosen = masks.at_levels(levels)
    assert [mask for mask in masks.masks if mask.level in levels] == list(chosen.masks)
    painted, before = chosen.paint(), masks.paint()
    assert painted.shape == before.shape
    for level in range(3):
        assert torch.equal(painted[level] >= 0, (before[level] >= 0) & torch.tensor(level in levels))


@settings(max_examples=40)
@given(height=SIDES, width=SIDES, seed=SEEDS)
def test_a_region_is_cut_out_alone_in_the_middle_of_a_square(height, width, seed):
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.integers(1, 256, (3, height, width), dtype=np.uint8))
    mask = RegionMask.from_pixels(0, random_pixels(rng, height, width))
    length = max(mask.inside.shape)
    # At its original size the square is not interpolated.
    for antialias in (False, True):
        cut = cut_out(pixels.float(), mask, length, antialias)
        assert np.allclose(cut.permute(1, 2, 0).numpy(), square_of(pixels, mask), atol=1e-3)
    assert int((cut > 0.5).all(dim=0).sum()) == mask.area


def test_an_odd_rest_of_the_padding_goes_below_and_to_the_right():
    cut = cut_out(torch.ones(3, 2, 5), RegionMask.from_pixels(0, np.ones((2, 5), dtype=bool)), 5, antialias=False)
    assert cut[0, :, 0].tolist() == [0, 1, 1, 0, 0]
    cut = cut_out(torch.ones(3, 4, 1), RegionMask.from_pixels(0, np.ones((4, 1), dtype=bool)), 4, antialias=False)
    assert cut[0, 0].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("size", [(9, 13), (40, 17), (60, 90), (131, 100)])
@pytest.mark.parametrize("side", [16, 33, 64])
def test_without_averaging_a_region_is_scaled_as_opencv_scales_it(rng, size, side):
    pixels = torch.from_numpy(rng.integers(0, 256, (3, *size), dtype=np.uint8))
    mask = RegionMask.from_pixels(0, random_pixels(rng, *size) | np.eye(*size, dtype=bool))
    cut = cut_out(pixels.float(), mask, side, antialias=False).permute(1, 2, 0).numpy()
    expected = cv2.resize(square_of(pixels, mask), (side, side), interpolation=cv2.INTER_LINEAR)
    assert np.abs(cut - expected).max() <= 1


@pytest.mark.parametrize("size", [(60, 90), (131, 100)])
def test_with_averaging_a_region_is_shrunk_as_pillow_shrinks_it(rng, size):
    pixels = torch.from_numpy(rng.integers(0, 256, (3, *size), dtype=np.uint8))
    mask = RegionMask.from_pixels(0, np.ones(size, dtype=bool))
    cut = cut_out(pixels.float(), mask, 24, antialias=True).permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(square_of(pixels, mask)).resize((24, 24), Image.Resampling.BILINEAR))
    assert np.abs(cut - expected).max() <= 1.5
    # OpenCV only interpolates between neighbors, which gives another result.
    assert np.abs(cut - cut_out(pixels.float(), mask, 24, antialias=False).permute(1, 2, 0).numpy()).max() > 20


def test_clipped_masks_lose_the_pixels_that_are_not_kept():
    full = np.ones((20, 30), dtype=bool)
    kept = full.copy()
    kept[:, :12] = False
    masks = [RegionMask.from_pixels(level, pixels) for level, pixels in ((0, full), (1, kept), (1, ~kept))]
    clipped = ViewMasks(20, 30, 2, masks).clipped(kept)
    assert [mask.level for mask in clipped.masks] == [0, 1]
    assert all(np.array_equal(mask.pixels(20, 30), kept) for mask in clipped.masks)
    assert clipped.masks[1] is masks[1]


@pytest.mark.parametrize(("width", "remains"), [(1, False), (2, True)])
def test_a_small_rest_of_a_clipped_mask_is_dropped(width, remains):
    """Of a mask of 8 x 20 pixels, 8 are too few and 16 remain; an unclipped mask of 4 pixels remains too."""
    kept = np.ones((8, 40), dtype=bool)
    kept[:, : 20 - width] = False
    large, small = np.zeros((2, 8, 40), dtype=bool)
    large[:, :20] = True
    small[:2, 30:32] = True
    clipped = ViewMasks(8, 40, 1, [RegionMask.from_pixels(0, pixels) for pixels in (large, small)]).clipped(kept)
    assert [mask.area for mask in clipped.masks] == ([16, 4] if remains else [4])


def test_a_small_share_of_a_clipped_mask_is_dropped():
    kept = np.zeros((20, 100), dtype=bool)
    kept[:, :5] = True
    assert len(ViewMasks(20, 100, 1, [RegionMask.from_pixels(0, np.ones_like(kept))]).clipped(kept)) == 0
