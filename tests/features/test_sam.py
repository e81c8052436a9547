"""SAM's masks at three levels: the filters of each step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from genlangsplat_ns.features.sam import SamMaskGenerator
from genlangsplat_ns.features.settings import SamSettings
from genlangsplat_ns.levels import LEVELS
from tests.features.sam_fakes import (
    HEIGHT,
    ONE_CROP,
    WIDTH,
    StubPredictor,
    Thing,
    assert_masks,
    blobs,
    dense,
    found,
    generate,
    picture,
    rectangle,
    see,
)
from tests.features.tiny_sam import NO_MASK_NMS

pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_only_kept_pixels_are_prompts(crop_n_layers):
    """Prompts on a masked object would find it; here nothing on the kept half does."""
    kept = rectangle(0, 0, HEIGHT, WIDTH // 2)
    masked = Thing(0, rectangle(20, WIDTH // 2 + 20, 40, 40))
    predictor = StubPredictor(see([masked]))
    generator = SamMaskGenerator(predictor, SamSettings(crop_n_layers=crop_n_layers, points_per_side=8), "stub")
    assert len(generator.generate(picture(), torch.from_numpy(kept))) == 0
    # Half of the points on the image, and all points of the crops on its left half, which overlaps the others.
    assert sum(map(sum, predictor.batches)) < 64 * (1 + 4 * crop_n_layers)
    assert sum(predictor.batches[0]) == 32


def test_an_image_without_a_kept_pixel_has_no_masks():
    generator = SamMaskGenerator(StubPredictor(see([])), SamSettings(**ONE_CROP), "stub")
    assert len(generator.generate(picture(), torch.zeros(HEIGHT, WIDTH, dtype=torch.bool))) == 0


def test_levels_are_sam_s_three_masks_of_a_prompt():
    nested = [rectangle(60, 70, 20, 20), rectangle(50, 60, 40, 40), rectangle(30, 40, 90, 100)]
    prompts = nested[0]
    things = [Thing(level, pixels, prompts=prompts) for level, pixels in enumerate(nested)]
    masks = generate(StubPredictor(see(things)), **ONE_CROP)
    assert (masks.height, masks.width, masks.num_levels) == (HEIGHT, WIDTH, len(LEVELS))
    assert [mask.level for mask in masks.masks] == [0, 1, 2]
    for level, pixels in enumerate(nested):
        assert_masks(dense(masks, level), [pixels])


def test_levels_do_not_suppress_each_other():
    same = rectangle(50, 60, 40, 40)
    masks = generate(StubPredictor(see([Thing(level, same) for level in range(3)])), points_per_side=10)
    assert [mask.level for mask in masks.masks] == [0, 1, 2]


def test_a_crop_is_encoded_once_and_a_batch_of_prompts_decoded_once_for_all_levels():
    predictor = StubPredictor(see([Thing(level, rectangle(30, 40, 60, 60)) for level in range(3)]))
    generate(predictor, points_per_side=10, points_per_batch=32)
    assert predictor.crops == [
        (0, 0, 160, 200),
        (0, 0, 107, 127),
        (53, 0, 107, 127),
        (0, 73, 107, 127),
        (53, 73, 107, 127),
    ]
    assert predictor.batches == [[32, 32, 32, 4]] * 5
    assert predictor.num_resets == 5


def test_without_layers_of_crops_only_the_picture_is_looked_at():
    predictor = StubPredictor(see([]))
    generate(predictor, points_per_side=4, crop_n_layers=0)
    assert predictor.crops == [(0, 0, HEIGHT, WIDTH)]
    assert predictor.batches == [[16]]


def test_deeper_layers_have_more_crops_and_fewer_prompts_where_that_is_asked():
    predictor = StubPredictor(see([]))
    generate(predictor, points_per_side=8, crop_n_layers=2, crop_n_points_downscale_factor=2)
    assert [sum(batches) for batches in predictor.batches] == [64] + 4 * [16] + 16 * [4]


def test_prompts_are_evenly_spaced_over_the_picture_and_over_each_crop():
    prompts: list[tuple[tuple[int, ...], float, float]] = []

    def answer(crop: tuple[int, int, int, int], row: float, column: float) -> tuple[np.ndarray, np.ndarray]:
        prompts.append((crop, row, column))
        return np.full((3, *crop[2:]), -10.0), np.zeros(3)

    generate(StubPredictor(answer), points_per_side=2)
    for crop in {crop for crop, _, _ in prompts}:
        top, left, height, width = crop
        places = [(row, column) for other, row, column in prompts if other == crop]
        expected = [(top + y * height, left + x * width) for y in (0.25, 0.75) for x in (0.25, 0.75)]
        assert np.allclose(places, expected)


@pytest.mark.parametrize("points_per_batch", [1, 7])
def test_the_size_of_batches_changes_no_mask(points_per_batch):
    settings = {"points_per_side": 4, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.3, **NO_MASK_NMS}
    expected = generate(StubPredictor(blobs(0)), **settings)
    masks = generate(StubPredictor(blobs(0)), **settings, points_per_batch=points_per_batch)
    assert len(masks) > 10
    for level in range(3):
        assert_masks(dense(masks, level), dense(expected, level))


@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_levels_without_masks_stay_empty(crop_n_layers):
    settings = {"points_per_side": 10, "crop_n_layers": crop_n_layers}
    nothing = generate(StubPredictor(see([])), **settings)
    assert len(nothing) == 0
    assert bool((nothing.paint() == -1).all())
    only_parts = generate(StubPredictor(see([Thing(1, rectangle(60, 80, 40, 40))])), **settings)
    assert [mask.level for mask in only_parts.masks] == [1]
    assert only_parts.paint().amax(dim=(1, 2)).tolist() == [-1, 0, -1]


def test_a_mask_without_a_pixel_is_none():
    """All logits may be just below the threshold, with finite stability and any predicted IoU."""

    def answer(crop: tuple[int, int, int, int], row: float, column: float) -> tuple[np.ndarray, np.ndarray]:
        logits = np.full((3, *crop[2:]), -0.5)
        logits[2, 60:100, 80:120] = 10.0
        return logits, np.full(3, 0.9)

    masks = generate(StubPredictor(answer), **ONE_CROP, **NO_MASK_NMS, stability_score_thresh=0.0)
    assert [mask.level for mask in masks.masks] == [2]
    assert_masks(dense(masks, 2), [rectangle(60, 80, 40, 40)])


# ------------------------------------------------------------------------------------------------------------- filters


def test_masks_that_sam_rates_no_better_than_the_threshold_are_dropped():
    good, middling, bad = (rectangle(20 + 45 * number, 30, 30, 30) for number in range(3))
    things = [Thing(0, good, rating=0.75), Thing(0, middling, rating=0.5), Thing(0, bad, rating=0.25)]
    assert_masks(found(things, pred_iou_thresh=0.5), [good])
    assert_masks(found(things, pred_iou_thresh=0.4), [good, middling])


def test_masks_that_change_with_their_threshold_are_dropped():
    """At the default of 0.85 a mask that keeps 17 of 20 rows is kept, and one that keeps 16 is removed."""
    stable, shaky = rectangle(30, 30, 20, 30), rectangle(90, 30, 20, 30)
    things = [Thing(0, stable, doubtful=rectangle(30, 30, 3, 30)), Thing(0, shaky, doubtful=rectangle(90, 30, 4, 30))]
    assert_masks(found(things), [stable])
    assert_masks(found(things, stability_score_thresh=0.8), [stable, shaky])
    assert_masks(found(things, stability_score_offset=0.25), [stable, shaky])


def test_masks_at_an_edge_of_a_crop_are_dropped_and_at_an_edge_of_the_picture_are_not():
    across, at_the_border, within = rectangle(50, 60, 60, 80), rectangle(20, 0, 30, 40), rectangle(115, 80, 40, 45)
    for pixels, expected in ((across, []), (at_the_border, [at_the_border]), (within, [])):
        assert_masks(found([Thing(0, pixels, only_in="crops")], crop_n_layers=1), expected)
        assert_masks(found([Thing(0, pixels, only_in="picture")], crop_n_layers=1), [pixels])


def test_a_thing_larger_than_a_crop_comes_in_one_piece():
    everything = rectangle(0, 0, HEIGHT, WIDTH)
    assert_masks(found([Thing(0, everything)], crop_n_layers=1), [everything])


def test_of_masks_of_one_crop_with_the_same_box_the_best_rated_stays():
    worse, better = rectangle(50, 50, 40, 40), rectangle(50, 54, 40, 40)
    left = rectangle(50, 50, 40, 20)
    things = [Thing(0, worse, rating=0.9, prompts=left), Thing(0, better, rating=0.95)]
    assert_masks(found(things), [better])
    assert_masks(found(things, box_nms_thresh=0.9), [better, worse])


def test_of_masks_of_different_crops_with_the_same_box_that_of_the_smaller_crop_stays():
    coarse, fine = rectangle(20, 20, 40, 40), rectangle(20, 20, 40, 44)
    things = [Thing(0, coarse, rating=0.99, only_in="picture"), Thing(0, fine, rating=0.8, only_in="crops")]
    assert_masks(found(things, crop_n_layers=1), [fine])
    assert_masks(found(things, crop_n_layers=1, crop_nms_thresh=0.95), [fine, coarse])


def test_small_holes_are_filled_and_small_islands_removed():
    solid, large_hole = rectangle(40, 40, 60, 60), rectangle(45, 45, 10, 10)
    ragged = solid & ~large_hole & ~rectangle(70, 70, 9, 11) | rectangle(120, 150, 11, 9) | rectangle(120, 20, 10, 10)
    things = [Thing(0, ragged, prompts=solid)]
    assert_masks(found(things), [solid & ~large_hole | rectangle(120, 20, 10, 10)])
    assert_masks(found(things, min_mask_region_area=0), [ragged])
    assert_masks(found(things, min_mask_region_area=101), [solid])


def test_a_mended_mask_keeps_only_the_box_it_needs():
    body = rectangle(40, 40, 60, 60)
    things = [Thing(1, body | rectangle(150, 190, 5, 5), prompts=body)]
    (mask,) = generate(StubPredictor(see(things)), **ONE_CROP).masks
    assert (mask.level, mask.top, mask.left, mask.inside.shape) == (1, 40, 40, (60, 60))


def test_of_masks_that_became_the_same_by_mending_the_untouched_one_stays():
    body, untouched = rectangle(40, 40, 60, 60), rectangle(40, 40, 60, 58)
    torn = Thing(0, body | rectangle(150, 190, 5, 5), rating=0.99, prompts=rectangle(40, 40, 60, 20))
    things = [torn, Thing(0, untouched, rating=0.8)]
    assert_masks(found(things), [untouched])
    assert_masks(found(things, min_mask_region_area=0), [torn.pixels, untouched])


def test_masks_whose_rating_times_stability_is_too_low_are_dropped():
    pixels = rectangle(50, 50, 20, 20)
    things = [Thing(0, pixels, rating=0.8, doubtful=rectangle(50, 50, 3, 20))]
    assert_masks(found(things, mask_nms_score=0.65), [pixels])
    assert_masks(found(things, mask_nms_score=0.7), [])


def test_of_masks_with_other_boxes_but_the_same_pixels_the_better_one_stays():
    body = rectangle(50, 50, 40, 40)
    whiskered = body | rectangle(50, 50, 1, 80)
    left = rectangle(50, 50, 40, 20)
    things = [Thing(0, whiskered, rating=0.9, prompts=left), Thing(0, body, rating=0.95)]
    assert_masks(found(things), [body, whiskered])
    assert_masks(found(things, mask_nms_iou=0.8), [body])
    # Lower stability lowers the score.
    things[1] = replace(things[1], doubtful=rectangle(50, 50, 5, 40))
    assert_masks(found(things, mask_nms_iou=0.8), [whiskered])


def test_masks_within_larger_ones_of_their_level_are_dropped():
    part, whole = rectangle(60, 60, 20, 20), rectangle(40, 40, 60, 60)
    things = [Thing(0, part, rating=0.99), Thing(0, whole), Thing(1, part)]
    assert_masks(found(things), [part, whole])
    assert_masks(found(things, mask_nms_inner=0.5), [whole])
    assert_masks(found(things, level=1, mask_nms_inner=0.5), [part])


def test_masks_come_from_the_best_rated_to_the_worst():
    places = [rectangle(20 + 45 * number, 30, 30, 30) for number in range(3)]
    things = [Thing(2, pixels, rating) for pixels, rating in zip(places, (0.8, 0.95, 0.9), strict=True)]
    assert_masks(found(things, level=2), [places[1], places[2], places[0]])


# -------------------------------------------------------------------------------------------------- agreement with SAM
