"""The metrics, and LangSplat's LERF-OVS rules against worked examples and slow reference implementations."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from genlangsplat_ns.evaluation.labels import CategoryTruth
from genlangsplat_ns.evaluation.metrics import intersection_over_union, is_hit, psnr
from genlangsplat_ns.evaluation.prediction import box_filter, find_peaks, majority_vote, predict
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF, THRESHOLD
from genlangsplat_ns.language.answers import answer_texts
from genlangsplat_ns.language.query import TextQuery

masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
same_size_masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
QUERY = TextQuery(("it",), threshold=0.6)


@given(same_size_masks)
def test_iou_is_symmetric_and_in_range(pair):
    a, b = pair
    score = intersection_over_union(a, b)
    assert score == intersection_over_union(b, a) and 0 <= score <= 1


@given(masks)
def test_iou_of_a_mask_with_itself_is_one(mask):
    assert intersection_over_union(mask, mask) == 1


@given(masks)
def test_iou_with_the_opposite_is_zero(mask):
    assert intersection_over_union(mask, ~mask) == 0


@given(same_size_masks)
def test_iou_is_one_only_for_equal_masks(pair):
    a, b = pair
    assert (intersection_over_union(a, b) == 1) == bool((a == b).all())


@given(same_size_masks)
def test_iou_with_a_part_is_its_share(pair):
    whole, other = pair
    part = whole & other
    expected = 1.0 if not whole.any() else part.sum() / whole.sum()
    assert intersection_over_union(whole, part) == pytest.approx(expected)


def test_iou_worked_example():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    assert intersection_over_union(a, b) == pytest.approx(4 / 12)


def box_mean_by_hand(values, size):
    """Mean of the window from size//2 before to (size-1)//2 after, mirrored without repeating the edge."""
    height, width = values.shape
    before, after = size // 2, size - 1 - size // 2
    padded = np.pad(values, ((before, after), (before, after)), mode="reflect")
    return np.array([[padded[y : y + size, x : x + size].mean() for x in range(width)] for y in range(height)])


@pytest.mark.parametrize("size", [3, 4, 30])
def test_box_filter_is_a_mirrored_mean_and_opencvs_filter2d(size):
    values = np.random.default_rng(0).random((35, 41))
    kernel = np.ones((size, size)) / size**2
    np.testing.assert_allclose(box_filter(values, size), box_mean_by_hand(values, size), atol=1e-12)
    np.testing.assert_allclose(box_filter(values, size), cv2.filter2D(values, -1, kernel), atol=1e-9)


def majority_by_hand(mask, size):
    """The official loop as described: windows exclude the last row and column, and ties give False."""
    reach, (height, width) = size // 2, mask.shape
    result = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            window = mask[
                max(0, y - reach) : min(y + reach + 1, height - 1), max(0, x - reach) : min(x + reach + 1, width - 1)
            ]
            result[y, x] = window.sum() > window.size - window.sum()
    return result


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))), st.sampled_from([1, 3, 7]))
def test_majority_vote_equals_the_loop(mask, size):
    np.testing.assert_array_equal(majority_vote(mask, size), majority_by_hand(mask, size))


def test_majority_ties_are_false_and_the_last_row_and_column_do_not_vote():
    halves = np.zeros((3, 3), bool)
    halves[:, 0] = True
    # Every 3x3 window is clipped to the first two rows and columns, so two of four voters are True.
    assert not majority_vote(halves, 3)[1, 1]
    only_last = np.zeros((9, 9), bool)
    only_last[-1] = only_last[:, -1] = True
    assert not majority_vote(only_last, 7).any()


def test_peaks_are_all_ties_in_reading_order():
    values = np.zeros((3, 4))
    values[0, 3] = values[2, 1] = 0.7
    assert find_peaks(values) == ((3, 0), (1, 2))


def test_a_constant_map_has_no_peak_and_so_never_hits():
    assert find_peaks(np.full((3, 4), 0.5)) == ()
    assert not is_hit((), CategoryTruth(np.ones((3, 4), bool), ((0.0, 0.0, 3.0, 2.0),)), "box")


TRUTH = CategoryTruth(np.pad(np.ones((2, 2), bool), ((1, 2), (1, 3))), ((1.0, 1.0, 2.0, 2.0), (4.0, 3.0, 5.0, 4.0)))


@pytest.mark.parametrize(
    ("peak", "in_box", "in_outline"),
    [
        ((1, 1), True, True),
        ((2, 2), True, True),
        ((3, 2), False, False),
        ((0, 1), False, False),
        ((4, 3), True, False),
        ((5, 4), True, False),
        ((5, 2), False, False),
    ],
)
def test_box_borders_are_inclusive_and_any_box_counts(peak, in_box, in_outline):
    assert is_hit([peak], TRUTH, "box") == in_box
    assert is_hit([peak], TRUTH, "outline") == in_outline
    assert is_hit([(0, 0), peak], TRUTH, "box") == in_box, "Any tied peak counts."


def test_fractional_boxes_are_compared_as_they_are():
    assert not is_hit([(1, 1)], CategoryTruth(TRUTH.mask, ((1.5, 0.0, 3.0, 3.0),)), "box")


def langsplat_by_definition(maps):
    """The segmentation rule, step by step, for one text."""
    smoothed = [0.5 * (level + box_mean_by_hand(level, 30)) for level in maps]
    level = int(np.argmax([level.max() for level in smoothed]))
    shifted = smoothed[level] - smoothed[level].min()
    stretched = np.clip(2 * shifted / (shifted.max() + 1e-9) - 1, 0, 1)
    return level, majority_by_hand(stretched > 0.4, 7)


def blob_maps(seed=0, shape=(36, 44)):
    """Noise with one bright disc per level, each with its own position, size and height."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    maps = 0.3 + 0.05 * rng.random((3, *shape))
    for level, (cx, cy, radius, height) in enumerate([(10, 10, 6, 0.3), (26, 18, 8, 0.45), (30, 25, 9, 0.2)]):
        maps[level] += height * ((x - cx) ** 2 + (y - cy) ** 2 < radius**2)
    return maps


@pytest.mark.parametrize("seed", range(3))
def test_langsplat_masks_equal_the_definition(seed):
    maps = blob_maps(seed)
    level, mask = langsplat_by_definition(maps)
    prediction = predict(torch.from_numpy(maps).float(), LANGSPLAT_LERF, QUERY)
    assert prediction.level == ("subpart", "part", "whole")[level] == "part"
    assert mask.any() and not mask.all()
    # Single precision may change a pixel exactly at the threshold.
    assert np.count_nonzero(prediction.mask != mask) <= 1


def test_the_level_is_chosen_before_the_maps_are_stretched():
    maps = torch.zeros(3, 20, 20)
    maps[0, 5:9, 5:9] = 0.55
    maps[2] = 0.6
    maps[2, 12:16, 12:16] = 0.9
    assert predict(maps, LANGSPLAT_LERF, QUERY).level == "whole"


def test_localization_uses_the_filtered_map_alone():
    maps = torch.full((3, 64, 64), 0.2)
    maps[:, 5, 5] = 1.0  # The raw peak is a single bright pixel ...
    maps[:, 30:60, 30:60] = 0.6  # ... and the filtered peak is in a large patch.
    prediction = predict(maps, LANGSPLAT_LERF, QUERY)
    ((x, y),) = prediction.peaks
    assert (x, y) == (45, 45), "The 30 pixel window covers 15 pixels before and 14 after."
    assert predict(maps, THRESHOLD, QUERY).peaks == ((5, 5),)


def test_mask_and_peak_choose_their_levels_independently():
    maps = torch.full((3, 64, 64), 0.1)
    maps[0, 10, 10] = 1.0
    maps[1, 30:60, 30:60] = 0.45
    prediction = predict(maps, LANGSPLAT_LERF, QUERY)
    assert prediction.level == "subpart" and prediction.peaks == ((45, 45),)


def test_the_threshold_protocol_agrees_with_a_query():
    maps = torch.from_numpy(blob_maps()).float()
    for level in ("mean", "auto", "part"):
        query = TextQuery(("it",), level=level, threshold=0.5)
        answer = answer_texts(maps[None], query)[0]
        prediction = predict(maps, THRESHOLD, query)
        np.testing.assert_array_equal(prediction.mask, answer.mask.numpy())
        assert prediction.level == answer.level and prediction.peaks[0] == answer.peak


def test_an_empty_rendering_has_no_mask_and_no_peak():
    for protocol in (THRESHOLD, LANGSPLAT_LERF):
        prediction = predict(torch.zeros(3, 20, 20), protocol, QUERY)
        assert not prediction.mask.any() and prediction.peaks == ()


def test_psnr_of_kept_pixels_ignores_the_others():
    gray = torch.full((4, 5, 3), 0.5)
    kept = torch.ones(4, 5, dtype=torch.bool)
    kept[:, 2:] = False
    other = gray + 0.1
    other[~kept] = -3.0
    assert float(psnr(other, gray, kept)) == pytest.approx(20.0, abs=1e-4)


def test_psnr_of_a_tenth_is_twenty_decibels():
    gray = torch.full((4, 4, 3), 0.5)
    assert float(psnr(gray + 0.1, gray)) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr(gray, gray)) == pytest.approx(100.0)
