"""A fake of SAM that sees given things, and pictures and masks for the tests of its mask generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from segment_anything.utils.transforms import ResizeLongestSide

from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.sam import SamMaskGenerator
from genlangsplat_ns.features.settings import SamSettings
from tests.features.tiny_sam import NO_MASK_NMS

HEIGHT, WIDTH = 160, 200
"""Size of the images; their crops are 107 rows high and 127 columns wide and begin at 0, 53 and 0, 73."""

ONE_CROP: dict[str, Any] = {"points_per_side": 10, "crop_n_layers": 0}

Answer = Callable[[tuple[int, int, int, int], float, float], tuple[np.ndarray, np.ndarray]]
"""Returns logits and ratings of three masks for a crop (top, left, height, width) and a prompt's row and column."""


def picture() -> torch.Tensor:
    """An image whose pixels encode their position, so that a stub can identify its crop."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)], dim=-1).to(torch.uint8)


class StubPredictor:
    """Fake `SamPredictor` with given masks that counts its calls."""

    device = torch.device("cpu")

    def __init__(self, answer: Answer, mask_threshold: float = 0.0) -> None:
        self.model = SimpleNamespace(mask_threshold=mask_threshold)
        self.transform = ResizeLongestSide(1024)
        self.crops: list[tuple[int, int, int, int]] = []
        self.batches: list[list[int]] = []
        self.num_resets = 0
        self._answer = answer

    def set_image(self, image: np.ndarray) -> None:
        top, left, _ = image[0, 0].tolist()
        self.crops.append((top, left, *image.shape[:2]))
        self.batches.append([])

    def reset_image(self) -> None:
        self.num_resets += 1

    def predict_torch(
        self, points: torch.Tensor, labels: torch.Tensor, multimask_output: bool, return_logits: bool
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        assert multimask_output and return_logits
        assert points.shape == (len(labels), 1, 2)
        assert bool((labels == 1).all())
        self.batches[-1].append(len(points))
        top, left, height, width = self.crops[-1]
        scaled_height, scaled_width = self.transform.get_preprocess_shape(height, width, 1024)
        answers = [
            self._answer(self.crops[-1], top + y * height / scaled_height, left + x * width / scaled_width)
            for x, y in points[:, 0].tolist()
        ]
        logits = torch.from_numpy(np.stack([logits for logits, _ in answers])).float()
        return logits, torch.from_numpy(np.stack([ratings for _, ratings in answers])).float(), None


@dataclass(frozen=True)
class Thing:
    """An object that SAM finds for each prompt on it."""

    level: int
    pixels: np.ndarray
    rating: float = 0.9
    doubtful: np.ndarray | None = None
    """Its pixels that are above the threshold by only half the default offset."""
    prompts: np.ndarray | None = None
    """Pixels at which prompts find it; all by default."""
    only_in: str | None = None
    """Whether only the "picture" or only its "crops" show the object."""


def see(things: list[Thing]) -> Answer:
    """Answers of a SAM that knows these objects; at each prompt and level it returns the first one."""

    def answer(crop: tuple[int, int, int, int], row: float, column: float) -> tuple[np.ndarray, np.ndarray]:
        top, left, height, width = crop
        where = "picture" if (height, width) == (HEIGHT, WIDTH) else "crops"
        logits, ratings = np.full((3, height, width), -10.0), np.zeros(3)
        for thing in reversed(things):
            prompts = thing.pixels if thing.prompts is None else thing.prompts
            if prompts[int(row), int(column)] and thing.only_in in (None, where):
                drawn = np.where(thing.pixels, 10.0, -10.0)
                if thing.doubtful is not None:
                    drawn[thing.doubtful] = 0.5
                logits[thing.level] = drawn[top : top + height, left : left + width]
                ratings[thing.level] = thing.rating
        return logits, ratings

    return answer


def rectangle(top: int, left: int, height: int, width: int) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[top : top + height, left : left + width] = True
    return pixels


def generate(predictor: Any, **settings: Any) -> ViewMasks:
    return SamMaskGenerator(predictor, SamSettings(**settings), "stub").generate(picture())


def dense(masks: ViewMasks, level: int) -> list[np.ndarray]:
    """All masks of a level as full-size images."""
    return [mask.pixels(masks.height, masks.width) for mask in masks.masks if mask.level == level]


def found(things: list[Thing], level: int = 0, **settings: Any) -> list[np.ndarray]:
    """Masks of a level, by default from one crop and without LangSplat's suppression."""
    return dense(generate(StubPredictor(see(things)), **{**ONE_CROP, **NO_MASK_NMS, **settings}), level)


def assert_masks(masks: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Whether both have the same masks in the same order."""
    assert [int(mask.sum()) for mask in masks] == [int(mask.sum()) for mask in expected]
    assert all(np.array_equal(mask, other) for mask, other in zip(masks, expected, strict=True))


# ---------------------------------------------------------------------------------------------------- levels and work


def blobs(seed: int) -> Answer:
    """Answers with disks of three sizes near the prompt, some duplicated, some uncertain, with holes and islands."""

    def answer(crop: tuple[int, int, int, int], row: float, column: float) -> tuple[np.ndarray, np.ndarray]:
        top, left, height, width = crop
        rows, columns = np.ogrid[top : top + height, left : left + width]
        rng = np.random.default_rng([seed, top, left, height, round(8 * row), round(8 * column)])
        logits, ratings = np.empty((3, height, width), dtype=np.float32), rng.uniform(0.6, 1.0, 3)
        for level, size in enumerate((12, 25, 50)):
            # Neighboring prompts give nearly the same disk.
            y, x = (size * round(place / size) + rng.uniform(-1, 1) for place in (row, column))
            logits[level] = (size * rng.uniform(0.85, 1) - np.hypot(rows - y, columns - x)) / rng.uniform(0.1, 1)
            for inside, radius in ((-9, 3), (9, 3), (9, 8)):
                if rng.random() < 0.4:
                    y, x = (place + rng.uniform(-1.5, 1.5) * size for place in (row, column))
                    logits[level][np.hypot(rows - y, columns - x) < radius] = inside
        return logits, ratings

    return answer


class OneLevel:
    """A predictor that returns only one of the three masks per prompt, of SAM or of SAM 2."""

    def __init__(self, predictor: Any, level: int) -> None:
        self._inner = predictor
        self._level = slice(level, level + 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def predict_torch(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
        logits, ratings, low_resolution = self._inner.predict_torch(*args, **kwargs)
        return logits[:, self._level], ratings[:, self._level], low_resolution

    def _predict(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        return tuple(part[:, self._level] for part in self._inner._predict(*args, **kwargs))


STOCK_SETTINGS = (
    "points_per_side",
    "points_per_batch",
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_n_layers",
    "crop_nms_thresh",
    "crop_overlap_ratio",
    "crop_n_points_downscale_factor",
    "min_mask_region_area",
)
"""Settings that segment-anything's own generator also has."""
