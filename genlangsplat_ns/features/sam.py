"""Masks at three levels from segment-anything.

SAM returns three masks per prompt: subpart, part and whole. As in LangSplat, these are the three levels. The levels
share one encoding of the image and of each crop, and one decoding of each batch of prompts.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.mask_nms import mask_nms
from genlangsplat_ns.features.regions import RegionMask, ViewMasks
from genlangsplat_ns.features.sam_weights import check_fit, checkpoint_identity, read_checkpoint, require_checkpoint
from genlangsplat_ns.features.settings import SamSettings
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.matrix_products import onednn_matmul

Points: TypeAlias = Float[NDArray[np.float64], "num_points 2"]

ALGORITHM_VERSION = 1
"""Increases whenever the same settings give different masks, so that features of older masks are not reused."""

_RUNTIME_SETTINGS = ("checkpoint", "points_per_batch")
"""Settings that do not change the masks."""


class _Candidate(NamedTuple):
    """A mask of one level with its scores."""

    mask: RegionMask
    rating: float
    """IoU predicted by SAM."""
    stability: float


class SamMaskGenerator:
    """Generates masks at three levels with a `SamPredictor`; the default settings are LangSplat's.

    A subclass runs another model by `_predict`, `_threshold` and `_forget_image`.
    """

    name = "sam"

    def __init__(self, predictor: Any, settings: SamSettings, identity: str) -> None:
        self._predictor = predictor
        self._settings = settings
        self._identity = identity

    @classmethod
    def load(cls, settings: SamSettings, device: str, download: bool = False) -> SamMaskGenerator:
        """Loads the model and its weights."""
        from segment_anything import SamPredictor, sam_model_registry

        if settings.model not in sam_model_registry:
            raise GenLangSplatError(
                f"SAM has no model {settings.model!r}. Choose one of {', '.join(sam_model_registry)}."
            )
        path = require_checkpoint(settings, download)
        state = read_checkpoint(path)
        sam = sam_model_registry[settings.model]()
        check_fit(path, settings, state, sam.state_dict())
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
        found = [self._crop_masks(pixels, box, grid) for box, grid in crops]
        masks: list[RegionMask] = []
        for level in range(len(LEVELS)):
            candidates = [candidate for crop in found for candidate in crop[level]]
            if len(crops) > 1:
                # Of duplicates, the one from the smallest crop stays, which has more detail.
                scores = [1.0 / _area(box) for (box, _), crop in zip(crops, found, strict=True) for _ in crop[level]]
                candidates = _box_nms(candidates, scores, settings.crop_nms_thresh)
            masks += self._suppress(self._remove_small_regions(candidates, height, width))
        return ViewMasks(height, width, len(LEVELS), masks)

    def _crop_masks(
        self, pixels: UInt8[NDArray[np.uint8], "height width 3"], box: list[int], grid: Points
    ) -> list[list[_Candidate]]:
        """Generates the masks of one crop at each level, with non-maximum suppression of their boxes."""
        left, top, right, bottom = box
        with onednn_matmul():
            self._predictor.set_image(np.ascontiguousarray(pixels[top:bottom, left:right]))
            points, size = grid * np.array([right - left, bottom - top]), self._settings.points_per_batch
            batches = [
                self._batch_masks(points[start : start + size], box, pixels.shape[:2])
                for start in range(0, len(points), size)
            ]
        self._forget_image()
        levels = ([candidate for batch in batches for candidate in batch[level]] for level in range(len(LEVELS)))
        threshold = self._settings.box_nms_thresh
        return [_box_nms(found, [candidate.rating for candidate in found], threshold) for found in levels]

    def _batch_masks(self, points: Points, box: list[int], size: tuple[int, ...]) -> list[list[_Candidate]]:
        """Generates the masks of a batch of prompts at each level, filtered by predicted IoU and stability."""
        from segment_anything.utils.amg import calculate_stability_score, is_box_near_crop_edge

        settings, threshold = self._settings, self._threshold
        left, top, right, bottom = box
        logits, ratings = self._predict(points, bottom - top, right - left)
        good = ratings > settings.pred_iou_thresh
        stabilities = torch.zeros_like(ratings)
        stable = calculate_stability_score(logits[good], threshold, settings.stability_score_offset)
        stabilities[good] = stable.to(ratings)
        good &= stabilities >= settings.stability_score_thresh
        levels = []
        for level in range(len(LEVELS)):
            chosen = good[:, level]
            inside = (logits[chosen, level] > threshold).cpu().numpy()
            scores = (ratings[chosen, level].tolist(), stabilities[chosen, level].tolist())
            candidates = [
                _Candidate(RegionMask.from_pixels(level, pixels, top, left), rating, stability)
                for pixels, rating, stability in zip(inside, *scores, strict=True)
                if pixels.any()
            ]
            # A mask at a crop edge inside the image is truncated.
            in_crop = _boxes(candidates) - torch.tensor([left, top, left, top])
            truncated = is_box_near_crop_edge(in_crop, box, [0, 0, size[1], size[0]]).tolist()
            levels.append([found for found, cut in zip(candidates, truncated, strict=True) if not cut])
        return levels

    @property
    def _threshold(self) -> float:
        """Logits above this are inside a mask."""
        return float(self._predictor.model.mask_threshold)

    def _predict(
        self, points: Points, height: int, width: int
    ) -> tuple[Float[Tensor, "num_points 3 height width"], Float[Tensor, "num_points 3"]]:
        """Predicts the logits of three masks for each point (x, y) of the current crop, and their IoUs."""
        predictor = self._predictor
        scaled = predictor.transform.apply_coords(points, (height, width))
        prompts = torch.as_tensor(scaled, device=predictor.device)[:, None]
        labels = torch.ones(len(prompts), 1, dtype=torch.int, device=predictor.device)
        logits, ratings, _ = predictor.predict_torch(prompts, labels, multimask_output=True, return_logits=True)
        return logits, ratings

    def _forget_image(self) -> None:
        """Releases the encoding of a crop."""
        self._predictor.reset_image()

    def _suppress(self, candidates: list[_Candidate]) -> list[RegionMask]:
        """Applies LangSplat's non-maximum suppression."""
        settings = self._settings
        masks = [candidate.mask for candidate in candidates]
        scores = torch.tensor([candidate[1:] for candidate in candidates]).reshape(-1, 2).prod(dim=1)
        thresholds = (settings.mask_nms_iou, settings.mask_nms_score, settings.mask_nms_inner)
        keep = mask_nms(masks, scores, *thresholds, self._predictor.device)
        return [mask for mask, stays in zip(masks, keep.tolist(), strict=True) if stays]

    def _remove_small_regions(self, candidates: list[_Candidate], height: int, width: int) -> list[_Candidate]:
        """Fills small holes and removes small islands; of resulting duplicates, keeps unchanged masks."""
        from segment_anything.utils.amg import remove_small_regions

        settings = self._settings
        smallest = settings.min_mask_region_area
        if smallest <= 0:
            return candidates
        cleaned, unchanged = [], []
        for candidate in candidates:
            mask = candidate.mask
            pixels, filled = remove_small_regions(mask.pixels(height, width), smallest, mode="holes")
            pixels, removed = remove_small_regions(pixels, smallest, mode="islands")
            if filled or removed:
                candidate = candidate._replace(mask=RegionMask.from_pixels(mask.level, pixels))
            cleaned.append(candidate)
            unchanged.append(float(not filled and not removed))
        return _box_nms(cleaned, unchanged, max(settings.box_nms_thresh, settings.crop_nms_thresh))


def sam_mask_settings(settings: SamSettings, identity: str | None = None) -> dict[str, str | int | float]:
    """Returns the weights and all parameters that change SAM's masks."""
    relevant = {name: value for name, value in asdict(settings).items() if name not in _RUNTIME_SETTINGS}
    return {"version": ALGORITHM_VERSION, **relevant, "model": identity or checkpoint_identity(settings)}


def _prompts(
    grid: Points, box: list[int], kept: Bool[NDArray[np.bool_], "height width"]
) -> Float[NDArray[np.float64], "num_kept 2"]:
    """Selects the points of a crop's grid, in fractions of the crop, that are on kept pixels."""
    left, top, right, bottom = box
    columns, rows = (grid * np.array([right - left, bottom - top])).astype(int).T
    on_kept: NDArray[np.bool_] = kept[top:bottom, left:right][rows, columns]
    return grid[on_kept]


def _area(box: list[int]) -> int:
    left, top, right, bottom = box
    return max(0, right - left) * max(0, bottom - top)


def _boxes(candidates: list[_Candidate]) -> Float[Tensor, "count 4"]:
    """Returns bounding boxes in SAM's format: x and y of the first and of the last pixel."""
    masks = (candidate.mask for candidate in candidates)
    corners = [[mask.left, mask.top, mask.box[1].stop - 1, mask.box[0].stop - 1] for mask in masks]
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def _box_nms(candidates: list[_Candidate], scores: list[float], threshold: float) -> list[_Candidate]:
    """Removes candidates whose box overlaps that of one with a higher score; returns the others by score."""
    from torchvision.ops import nms

    kept = nms(_boxes(candidates), torch.tensor(scores, dtype=torch.float32), threshold)
    return [candidates[index] for index in kept.tolist()]
