"""SAM's masks at three levels agree with those of segment-anything, level by level."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from genlangsplat_ns.features.masks import MaskGenerator
from genlangsplat_ns.features.sam import SamMaskGenerator
from genlangsplat_ns.features.settings import SamSettings
from genlangsplat_ns.levels import LEVELS
from tests.features.sam_fakes import (
    STOCK_SETTINGS,
    OneLevel,
    StubPredictor,
    assert_masks,
    blobs,
    dense,
    generate,
    picture,
)
from tests.features.tiny_sam import NO_MASK_NMS, build_tiny, tiny_settings

pytestmark = pytest.mark.usefixtures("empty_machine")


def stock_masks(predictor: Any, level: int, image: torch.Tensor, **settings: Any) -> list[np.ndarray]:
    """Masks of segment-anything's own generator, at one level."""
    stock = SamAutomaticMaskGenerator(SimpleNamespace(image_encoder=SimpleNamespace(img_size=1024)), **settings)
    stock.predictor = OneLevel(predictor, level)
    return [record["segmentation"] for record in stock.generate(image.numpy())]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {"points_per_side": 6},
        {"points_per_side": 6, "min_mask_region_area": 0, "box_nms_thresh": 0.3, "pred_iou_thresh": 0.5},
        {"points_per_side": 8, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2, "crop_nms_thresh": 0.4},
        {"points_per_side": 9, "crop_n_layers": 0, "stability_score_offset": 2.0, "stability_score_thresh": 0.4},
    ],
    ids=["as_langsplat", "not_mended", "two_layers", "no_crops"],
)
def test_each_level_is_what_stock_sam_finds_with_that_mask_of_every_prompt(seed, settings):
    threshold = 0.25 * seed
    shared = {name: getattr(SamSettings(**settings), name) for name in STOCK_SETTINGS}
    masks = generate(StubPredictor(blobs(seed), threshold), **settings, **NO_MASK_NMS)
    for level in range(3):
        expected = stock_masks(StubPredictor(blobs(seed), threshold), level, picture(), **shared)
        assert len(expected) > 1
        assert_masks(dense(masks, level), expected)


def test_a_network_finds_what_stock_sam_finds_with_the_same_weights(tiny_weights, rng):
    image = torch.from_numpy(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    settings = replace(tiny_settings(tiny_weights, box_nms_thresh=0.999, min_mask_region_area=5), points_per_side=3)
    generator = SamMaskGenerator.load(settings, "cpu")
    assert isinstance(generator, MaskGenerator)
    masks = generator.generate(image)
    assert (masks.height, masks.width, masks.num_levels) == (48, 64, len(LEVELS))
    sam = build_tiny()
    sam.load_state_dict(torch.load(tiny_weights, weights_only=True))
    shared = {name: getattr(settings, name) for name in STOCK_SETTINGS}
    assert len(masks) > 0
    for level in range(3):
        assert_masks(dense(masks, level), stock_masks(SamPredictor(sam), level, image, **shared))
