"""Mask suppression, compared to LangSplat's loop over all pairs, and exact intersection counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genlangsplat_ns.features import mask_nms as module
from genlangsplat_ns.features.mask_nms import intersections, mask_nms
from genlangsplat_ns.features.regions import RegionMask

LANGSPLAT = (0.8, 0.7, 0.5)
"""LangSplat's thresholds: IoU, score, and contained masks."""

THRESHOLDS = st.one_of(
    st.just(LANGSPLAT),
    st.tuples(
        st.sampled_from([0.0, 0.5, 0.8, 1.0]), st.sampled_from([0.0, 0.7, 0.9]), st.sampled_from([0.0, 0.7, 1.0])
    ),
)


def plain_mask_nms(
    masks: list[np.ndarray], scores: list[float], iou_threshold: float, score_threshold: float, inner_threshold: float
) -> list[bool]:
    """LangSplat's rule, pair by pair on whole masks."""
    count = len(masks)
    order = sorted(range(count), key=lambda number: -scores[number])
    iou = np.zeros((count, count))
    inner = np.zeros((count, count))
    for i in range(count):
        for j in range(i + 1, count):
            a, b = masks[order[i]], masks[order[j]]
            shared, together = int((a & b).sum()), int((a | b).sum())
            share_of_a, share_of_b = shared / int(a.sum()), shared / int(b.sum())
            iou[i, j] = shared / together
            if share_of_a < 0.5 and share_of_b >= 0.85:
                inner[i, j] = 1 - share_of_a * share_of_b
            if share_of_a >= 0.85 and share_of_b < 0.5:
                inner[j, i] = 1 - share_of_a * share_of_b
    keep = [False] * count
    for j in range(count):
        # Removed masks still suppress others.
        keep[order[j]] = (
            scores[order[j]] > score_threshold
            and iou[:, j].max() <= iou_threshold
            and inner[:, j].max() <= 1 - inner_threshold
        )
    return keep


def regions(masks: list[np.ndarray]) -> list[RegionMask]:
    return [RegionMask.from_pixels(0, pixels) for pixels in masks]


def random_masks(seed: int, count: int, height: int, width: int) -> list[np.ndarray]:
    """Rectangles, scattered pixels, parts and supersets of earlier masks, modified copies, and single pixels."""
    rng = np.random.default_rng(seed)

    def rectangle() -> np.ndarray:
        pixels = np.zeros((height, width), dtype=bool)
        top, left = rng.integers(height), rng.integers(width)
        pixels[top : rng.integers(top, height) + 1, left : rng.integers(left, width) + 1] = True
        return pixels

    masks: list[np.ndarray] = []
    for _ in range(count):
        kind = rng.choice(["rectangle", "scattered", "part", "whole", "copy", "changed", "pixel", "everything"])
        before = masks[rng.integers(len(masks))] if masks else rectangle()
        pixels = {
            "rectangle": rectangle(),
            "scattered": rng.random((height, width)) < rng.random(),
            "part": before & rectangle(),
            "whole": before | rectangle(),
            "copy": before,
            "changed": before ^ (rng.random((height, width)) < 0.08),
            "pixel": np.zeros((height, width), dtype=bool),
            "everything": np.ones((height, width), dtype=bool),
        }[str(kind)].copy()
        if not pixels.any():
            pixels[rng.integers(height), rng.integers(width)] = True
        masks.append(pixels)
    return masks


def row_masks(*rows: str) -> list[np.ndarray]:
    """Masks of one row, drawn with x."""
    return [np.array([[letter == "x" for letter in row]]) for row in rows]


def kept(
    masks: list[np.ndarray], scores: list[float], thresholds: tuple[float, float, float] = LANGSPLAT
) -> list[bool]:
    return mask_nms(regions(masks), torch.tensor(scores), *thresholds).tolist()


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 14),
    height=st.integers(1, 16),
    width=st.integers(1, 16),
    seed=st.integers(0, 100_000),
    thresholds=THRESHOLDS,
    ties=st.booleans(),
    band_bytes=st.sampled_from([1, 500, 3000, module.BAND_BYTES]),
)
@example(count=0, height=4, width=4, seed=0, thresholds=LANGSPLAT, ties=True, band_bytes=1)
def test_the_same_masks_stay_as_by_the_plain_double_loop(count, height, width, seed, thresholds, ties, band_bytes):
    masks = random_masks(seed, count, height, width)
    rng = np.random.default_rng(seed)
    scores = rng.choice([0.6, 0.7, 0.75, 0.95], count) if ties else rng.uniform(0.5, 1.0, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BAND_BYTES", band_bytes)
        found = mask_nms(regions(masks), torch.from_numpy(scores), *thresholds)
    assert found.dtype == torch.bool
    assert found.tolist() == plain_mask_nms(masks, scores.tolist(), *thresholds)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 14),
    height=st.integers(1, 40),
    width=st.integers(1, 20),
    seed=st.integers(0, 100_000),
    band_bytes=st.sampled_from([1, 2000, 5000, module.BAND_BYTES]),
)
def test_shared_pixels_are_counted_exactly(count, height, width, seed, band_bytes):
    masks = random_masks(seed, count, height, width)
    flat = np.stack(masks).reshape(count, -1).astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BAND_BYTES", band_bytes)
        assert np.array_equal(intersections(regions(masks)).numpy(), flat @ flat.T)


def test_large_masks_are_counted_exactly_over_many_bands(monkeypatch, rng):
    masks = [rng.random((700, 900)) < share for share in (0.2, 0.5, 1.1)]
    masks.append(np.pad(np.ones((1, 1), dtype=bool), ((699, 0), (899, 0))))
    flat = np.stack(masks).reshape(4, -1)
    expected = [[int((a & b).sum()) for b in flat] for a in flat]
    assert intersections(regions(masks)).tolist() == expected
    monkeypatch.setattr(module, "BAND_BYTES", 4 * 900 * 4 * 37)
    assert intersections(regions(masks)).tolist() == expected


def test_rows_that_no_mask_reaches_into_count_nothing(monkeypatch):
    monkeypatch.setattr(module, "BAND_BYTES", 1)
    top, bottom = np.zeros((2, 9, 4), dtype=bool)
    top[0, 1:3], bottom[8, 2:] = True, True
    assert intersections(regions([top, bottom, top | bottom])).tolist() == [[2, 0, 2], [0, 2, 2], [2, 2, 4]]


def test_of_no_masks_none_stay():
    assert kept([], []) == []


def test_masks_that_share_nothing_all_stay():
    assert kept(row_masks("xx......", "..xx....", "......xx"), [0.9, 0.8, 0.99]) == [True, True, True]


def test_of_equal_masks_the_best_one_stays_and_of_equal_scores_the_first():
    assert kept(row_masks("xxx", "xxx", "xxx"), [0.8, 0.9, 0.85]) == [False, True, False]
    assert kept(row_masks("xxx", "xxx", "xxx"), [0.8, 0.8, 0.8]) == [True, False, False]


def test_a_mask_at_the_largest_overlap_stays_and_one_above_it_goes():
    assert kept(row_masks("xxxxx", "xxxx."), [0.9, 0.8]) == [True, True]
    assert kept(row_masks("xxxxxx", "xxxxx."), [0.9, 0.8]) == [True, False]


def test_a_mask_at_the_lowest_score_goes():
    assert kept(row_masks("x..", ".x.", "..x"), [0.75, 0.5, 0.25], (0.8, 0.5, 0.5)) == [True, False, False]


def test_a_small_mask_within_a_large_one_goes_whatever_their_scores():
    for scores in ([0.8, 0.99], [0.99, 0.8]):
        assert kept(row_masks("xxxxx", ".xx.."), scores) == [True, False]


def test_a_mask_that_is_half_of_another_is_not_within_it():
    assert kept(row_masks("xxxx", ".xx."), [0.8, 0.9]) == [True, True]


@pytest.mark.parametrize(("inside", "stays"), [(16, True), (17, False)])
def test_a_mask_is_within_another_from_85_percent_on(inside, stays):
    whole = np.zeros((1, 100), dtype=bool)
    part = np.zeros((1, 100), dtype=bool)
    whole[0, 20:] = True
    part[0, inside : inside + 20] = True
    assert int((whole & part).sum()) == inside
    assert kept([whole, part], [0.9, 0.8]) == [True, stays]


def test_the_inner_threshold_says_how_much_of_an_overlap_is_forgiven():
    masks = row_masks("xxxxxxxxxx", "xxx.......")
    # The part is inside the whole and covers 0.3 of it, so the product is 0.3.
    assert kept(masks, [0.9, 0.8], (0.8, 0.7, 0.25)) == [True, True]
    assert kept(masks, [0.9, 0.8], (0.8, 0.7, 0.35)) == [True, False]
    assert kept(masks, [0.9, 0.8], (0.8, 0.7, 0.0)) == [True, True]


def test_masks_that_go_themselves_still_make_others_go():
    """The first mask removes the second, which still removes the third; the first and the third hardly overlap."""
    rows = ["xxxxxxxxxx..", ".xxxxxxxxxx.", "..xxxxxxxxxx"]
    assert kept(row_masks(*rows), [0.99, 0.9, 0.8]) == [True, False, False]
    assert kept(row_masks(rows[0], rows[2]), [0.99, 0.8]) == [True, True]
    # A mask below the score threshold still suppresses worse ones.
    assert kept(row_masks("xxxxx", "xx..."), [0.6, 0.9]) == [False, False]


def test_answers_come_in_the_order_of_the_masks_and_not_of_the_scores():
    masks = row_masks("x.....", ".xxx..", ".xxx..", ".....x")
    assert kept(masks, [0.75, 0.8, 0.9, 0.5]) == [True, False, True, False]


def test_masks_do_not_depend_on_where_they_lie_in_the_view():
    masks = random_masks(5, 10, 12, 12)
    scores = np.random.default_rng(5).uniform(0.6, 1.0, 10).tolist()
    moved = [np.pad(pixels, ((7, 3), (11, 0))) for pixels in masks]
    assert kept(moved, scores) == kept(masks, scores)
    assert True in kept(masks, scores) and False in kept(masks, scores)
