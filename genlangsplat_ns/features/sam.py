"""Masks at three levels from segment-anything.

SAM returns three masks per prompt: subpart, part and whole. As in LangSplat, these are the three levels. The levels
share one encoding of the image and of each crop, and one decoding of each batch of prompts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.mask_nms import mask_nms
from genlangsplat_ns.features.regions import RegionMask, ViewMasks
from genlangsplat_ns.features.sam_weights import (
    checkpoint_identity,
    model_of_width,
    read_checkpoint,
    require_checkpoint,
)
from genlangsplat_ns.features.settings import SamSettings
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.matrix_products import onednn_matmul

ALGORITHM_VERSION = 1
"""Increases whenever the same settings give different masks, so that features of older masks are not reused."""

_RUNTIME_SETTINGS = ("checkpoint", "points_per_batch")
"""Settings that do not change the masks."""


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Masks of one level with their scores."""

    masks: list[RegionMask]
    ratings: Float[np.ndarray, " count"]
    """IoU predicted by SAM."""
    stabilities: Float[np.ndarray, " count"]

    def keep(self, indices: Int64[Tensor, " kept"]) -> _Candidates:
        """Selects candidates, in the order of `indices`."""
        masks = [self.masks[index] for index in indices.tolist()]
        return _Candidates(masks, self.ratings[indices.numpy()], self.stabilities[indices.numpy()])

    @classmethod
    def concatenate(cls, parts: list[_Candidates]) -> _Candidates:
        return cls(
            [mask for part in parts for mask in part.masks],
            np.concatenate([part.ratings for part in parts]),
            np.concatenate([part.stabilities for part in parts]),
        )


class SamMaskGenerator:
    """Generates masks at three levels with a `SamPredictor`; the default settings are LangSplat's."""

    name = "sam"

    def __init__(self, predictor: Any, settings: SamSettings, identity: str) -> None:
        self._predictor = predictor
        self._settings = settings
        self._identity = identity

    @classmethod
    def load(cls, settings: SamSettings, device: str, download: bool = False) -> SamMaskGenerator:
        """Loads the model and its weights.

        Raises:
            GenLangSplatError: If the weights are missing, damaged or of another model.
        """
        from segment_anything import SamPredictor, sam_model_registry

        if settings.model not in sam_model_registry:
            raise GenLangSplatError(
                f"SAM has no model {settings.model!r}. Choose one of {', '.join(sam_model_registry)}."
            )
        path = require_checkpoint(settings, download)
        state = read_checkpoint(path)
        sam = sam_model_registry[settings.model]()
        expected = {name: tuple(value.shape) for name, value in sam.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in state.items()}
        if found != expected:
            width = found.get("image_encoder.pos_embed", (0,))[-1]
            fitting = model_of_width(width)
            name = "" if fitting is None else f" {fitting}"
            raise GenLangSplatError(
                f"{path} does not fit SAM {settings.model}: it has {len(found)} weights and an image encoder with "
                f"{width or 'an unknown number of'} channels, expected {len(expected)} weights and "
                f"{expected['image_encoder.pos_embed'][-1]} channels. Give the model it belongs to with "
                f"--sam.model{name}."
            )
        sam.load_state_dict(state)
        predictor = SamPredictor(sam.eval().requires_grad_(False).to(device))
        return cls(predictor, settings, checkpoint_identity(settings))

    @property
    def settings(self) -> dict[str, str | int | float]:
        """All settings that change the masks, for the identity of stored features."""
        return sam_mask_settings(self._settings, self._identity)

    @torch.no_grad()
    def generate(
        self, image: UInt8[Tensor, "height width 3"], kept: Bool[Tensor, "height width"] | None = None
    ) -> ViewMasks:
        """Generates the masks of each level, in the order in which LangSplat paints them.

        Only pixels that are `kept` (None keeps all) are prompts.
        """
        from segment_anything.utils.amg import build_all_layer_point_grids, generate_crop_boxes

        settings = self._settings
        pixels = image.cpu().numpy()
        height, width = pixels.shape[:2]
        boxes, layers = generate_crop_boxes((height, width), settings.crop_n_layers, settings.crop_overlap_ratio)
        grids = build_all_layer_point_grids(
            settings.points_per_side, settings.crop_n_layers, settings.crop_n_points_downscale_factor
        )
        # Crops of an image that is only a few pixels wide may be empty.
        crops = [(box, grids[layer]) for box, layer in zip(boxes, layers, strict=True) if _area(box) > 0]
        if kept is not None:
            crops = [(box, _prompts(grid, box, kept.cpu().numpy())) for box, grid in crops]
            crops = [(box, grid) for box, grid in crops if len(grid)]
        if not crops:
            return ViewMasks(height, width, len(LEVELS), [])
        found = [self._crop_masks(pixels, box, grid) for box, grid in crops]
        areas = [_area(box) for box, _ in crops]
        masks: list[RegionMask] = []
        for level in range(len(LEVELS)):
            candidates = self._merge_crops([crop[level] for crop in found], areas)
            masks += self._suppress(self._remove_small_regions(candidates, height, width))
        return ViewMasks(height, width, len(LEVELS), masks)

    def _crop_masks(
        self, pixels: UInt8[np.ndarray, "height width 3"], box: list[int], grid: Float[np.ndarray, "num_points 2"]
    ) -> list[_Candidates]:
        """Generates the masks of one crop at each level, with non-maximum suppression of their boxes."""
        from torchvision.ops import nms

        left, top, right, bottom = box
        with onednn_matmul():
            self._predictor.set_image(np.ascontiguousarray(pixels[top:bottom, left:right]))
            points, size = grid * np.array([right - left, bottom - top]), self._settings.points_per_batch
            batches = [
                self._batch_masks(points[start : start + size], box, pixels.shape[:2])
                for start in range(0, len(points), size)
            ]
        self._predictor.reset_image()
        levels = []
        for level in range(len(LEVELS)):
            candidates = _Candidates.concatenate([batch[level] for batch in batches])
            if candidates.masks:
                scores = torch.from_numpy(candidates.ratings)
                candidates = candidates.keep(nms(_boxes(candidates.masks), scores, self._settings.box_nms_thresh))
            levels.append(candidates)
        return levels

    def _batch_masks(
        self, points: Float[np.ndarray, "count 2"], box: list[int], size: tuple[int, ...]
    ) -> list[_Candidates]:
        """Generates the masks of a batch of prompts at each level, filtered by predicted IoU and stability."""
        from segment_anything.utils.amg import calculate_stability_score, is_box_near_crop_edge

        predictor, settings = self._predictor, self._settings
        left, top, right, bottom = box
        scaled = predictor.transform.apply_coords(points, (bottom - top, right - left))
        prompts = torch.as_tensor(scaled, device=predictor.device)[:, None]
        labels = torch.ones(len(prompts), 1, dtype=torch.int, device=predictor.device)
        logits, ratings, _ = predictor.predict_torch(prompts, labels, multimask_output=True, return_logits=True)
        threshold = predictor.model.mask_threshold
        good = ratings > settings.pred_iou_thresh
        stabilities = torch.zeros_like(ratings)
        stable = calculate_stability_score(logits[good], threshold, settings.stability_score_offset)
        stabilities[good] = stable.to(ratings)
        good &= stabilities >= settings.stability_score_thresh
        levels = []
        for level in range(len(LEVELS)):
            chosen = good[:, level]
            inside = (logits[chosen, level] > threshold).cpu().numpy()
            filled = inside.any(axis=(1, 2)).nonzero()[0]
            candidates = _Candidates(
                [RegionMask.from_pixels(level, inside[index], top, left) for index in filled],
                ratings[chosen, level].float().cpu().numpy()[filled],
                stabilities[chosen, level].float().cpu().numpy()[filled],
            )
            # A mask at a crop edge inside the image is truncated.
            in_crop = _boxes(candidates.masks) - torch.tensor([left, top, left, top])
            truncated = is_box_near_crop_edge(in_crop, box, [0, 0, size[1], size[0]])
            levels.append(candidates.keep((~truncated).nonzero()[:, 0]))
        return levels

    def _merge_crops(self, found: list[_Candidates], areas: list[int]) -> _Candidates:
        """Merges the masks of all crops; of duplicates, keeps the one from the smallest crop, which has more detail."""
        from torchvision.ops import nms

        candidates = _Candidates.concatenate(found)
        if len(found) == 1:
            return candidates
        scores = [1.0 / area for crop, area in zip(found, areas, strict=True) for _ in crop.masks]
        return candidates.keep(nms(_boxes(candidates.masks), torch.tensor(scores), self._settings.crop_nms_thresh))

    def _suppress(self, candidates: _Candidates) -> list[RegionMask]:
        """Applies LangSplat's non-maximum suppression."""
        settings = self._settings
        scores = torch.from_numpy(candidates.ratings * candidates.stabilities)
        thresholds = (settings.mask_nms_iou, settings.mask_nms_score, settings.mask_nms_inner)
        keep = mask_nms(candidates.masks, scores, *thresholds, self._predictor.device)
        return [mask for mask, stays in zip(candidates.masks, keep.tolist(), strict=True) if stays]

    def _remove_small_regions(self, candidates: _Candidates, height: int, width: int) -> _Candidates:
        """Fills small holes and removes small islands; of resulting duplicates, keeps unchanged masks."""
        from segment_anything.utils.amg import remove_small_regions
        from torchvision.ops import nms

        smallest = self._settings.min_mask_region_area
        if smallest <= 0 or not candidates.masks:
            return candidates
        cleaned, unchanged = [], []
        for mask in candidates.masks:
            pixels, filled = remove_small_regions(mask.pixels(height, width), smallest, mode="holes")
            pixels, removed = remove_small_regions(pixels, smallest, mode="islands")
            cleaned.append(RegionMask.from_pixels(mask.level, pixels) if filled or removed else mask)
            unchanged.append(float(not filled and not removed))
        threshold = max(self._settings.box_nms_thresh, self._settings.crop_nms_thresh)
        kept = nms(_boxes(cleaned), torch.tensor(unchanged), threshold)
        return _Candidates(cleaned, candidates.ratings, candidates.stabilities).keep(kept)


def sam_mask_settings(settings: SamSettings, identity: str | None = None) -> dict[str, str | int | float]:
    """Returns the weights and all parameters that change SAM's masks.

    Raises:
        GenLangSplatError: If the weights file in the settings does not exist.
    """
    relevant = {name: value for name, value in asdict(settings).items() if name not in _RUNTIME_SETTINGS}
    return {"version": ALGORITHM_VERSION, **relevant, "model": identity or checkpoint_identity(settings)}


def _prompts(
    grid: Float[np.ndarray, "num_points 2"], box: list[int], kept: Bool[np.ndarray, "height width"]
) -> Float[np.ndarray, "num_kept 2"]:
    """Selects the points of a crop's grid, in fractions of the crop, that are on kept pixels."""
    left, top, right, bottom = box
    columns, rows = (grid * np.array([right - left, bottom - top])).astype(int).T
    return grid[kept[top:bottom, left:right][rows, columns]]


def _area(box: list[int]) -> int:
    left, top, right, bottom = box
    return max(0, right - left) * max(0, bottom - top)


def _boxes(masks: list[RegionMask]) -> Float[Tensor, "count 4"]:
    """Returns bounding boxes in SAM's format: x and y of the first and of the last pixel."""
    corners = [[mask.left, mask.top, mask.box[1].stop - 1, mask.box[0].stop - 1] for mask in masks]
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
