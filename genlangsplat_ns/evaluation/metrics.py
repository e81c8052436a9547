"""Scores of relevancy maps against labels, under protocols that are stated as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.lerf_ovs import Box, CategoryTruth
from genlangsplat_ns.language.query import TextQuery, choose_level
from genlangsplat_ns.levels import LEVELS

Map = Float[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a mask and a peak are read from the relevancy maps of the levels, and what counts as found.

    Attributes:
        name: What the results are filed under.
        description: One sentence for reports.
        level: `query` for the query's own rule, `raw-peak` for the level with the highest value before any min-max.
        box_size: Side of the mean filter of LangSplat, 0 for none. For the mask it is averaged with the raw map, for
            the peak it stands alone.
        min_max: Whether the map is stretched to 0 to 1 before the threshold.
        threshold: Pixels above it are selected; None for the query's own.
        majority_size: Side of the window of the majority vote that cleans the mask, 0 for none.
        target: A peak is a hit inside the object's `outline`, or inside its `box`, ends included.
        any_tied_peak: Whether any of several tied peaks may hit; otherwise the first in reading order counts.
    """

    name: str
    description: str
    level: str
    box_size: int
    min_max: bool
    threshold: float | None
    majority_size: int
    target: str
    any_tied_peak: bool


THRESHOLD = EvaluationProtocol(
    name="threshold",
    description="the query's own level rule and threshold on the raw relevancy; a hit is a peak inside the outline",
    level="query",
    box_size=0,
    min_max=False,
    threshold=None,
    majority_size=0,
    target="outline",
    any_tied_peak=False,
)

LANGSPLAT_LERF = EvaluationProtocol(
    name="langsplat-lerf",
    description="LangSplat's LERF-OVS rule as coded: half of a 30 pixel box filter, level by raw peak, min-max, above "
    "0.7, 7x7 majority; a hit is a box-filtered peak inside a ground-truth box",
    level="raw-peak",
    box_size=30,
    min_max=True,
    threshold=0.7,
    majority_size=7,
    target="box",
    any_tied_peak=True,
)

PROTOCOLS: tuple[EvaluationProtocol, ...] = (THRESHOLD, LANGSPLAT_LERF)
"""The protocols that every evaluation prints."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a protocol reads from the maps of one text in one view.

    Attributes:
        level: The level or rule of the mask.
        map: The map the threshold was laid on.
        mask: The selected pixels.
        peaks: The pixels (x, y) of the highest value that may hit, in reading order; none for a constant map.
    """

    level: str
    map: Map
    mask: Mask
    peaks: tuple[tuple[int, int], ...]


def intersection_over_union(a: Mask, b: Mask) -> float:
    """Shared pixels over pixels in either mask; two empty masks agree and score 1."""
    union = np.count_nonzero(a | b)
    return 1.0 if union == 0 else np.count_nonzero(a & b) / union


def box_filter(values: Map, size: int) -> Map:
    """Mean over a size x size window, as OpenCV's filter2D has it.

    The window of an even size reaches one pixel further up and left than down and right, and the border is mirrored
    without repeating the edge.
    """
    return cv2.blur(values, (size, size), borderType=cv2.BORDER_REFLECT_101)


def majority_vote(mask: Mask, size: int) -> Mask:
    """Sets each pixel to the majority of the window around it, as LangSplat's evaluation does.

    Its window ends before the last row and the last column of the picture, whose own values thus never vote; a tie,
    and a window left without pixels, is off.
    """
    reach = size // 2
    height, width = mask.shape
    voters = mask[: height - 1, : width - 1].astype(np.int64)
    sums = np.zeros((height, width), np.int64)
    sums[1:, 1:] = voters.cumsum(axis=0).cumsum(axis=1)
    top, bottom = _window(height, reach)
    left, right = _window(width, reach)
    on = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    votes = (bottom - top)[:, None] * (right - left)[None]
    return 2 * on > votes


def _window(length: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last voter around each position, of which there are length - 1."""
    position = np.arange(length)
    return np.clip(position - reach, 0, length - 1), np.clip(position + reach + 1, 0, length - 1)


def find_peaks(values: Map) -> tuple[tuple[int, int], ...]:
    """Every pixel (x, y) that has the highest value, in reading order; a constant map has no peak.

    The official code lets every pixel of a constant map be a peak and so scores it as a hit: a run that answers nothing
    would be perfect. This is the one deliberate difference.
    """
    if values.max() == values.min():
        return ()
    rows, columns = np.nonzero(values == values.max())
    return tuple((int(x), int(y)) for x, y in zip(columns, rows, strict=True))


def predict(maps: Float[Tensor, "levels height width"], protocol: EvaluationProtocol, query: TextQuery) -> Prediction:
    """Reads the mask and the peaks of one text in one view.

    Args:
        maps: Its raw relevancy per level.
        protocol: The rules.
        query: Gives the level rule and the threshold where the protocol leaves them to the query.

    Raises:
        GenLangSplatError: If the protocol names an unknown level rule.
    """
    raw = maps.detach().cpu().double().numpy()
    size = protocol.box_size
    filtered = np.stack([box_filter(level, size) for level in raw]) if size else raw
    smoothed = 0.5 * (raw + filtered)
    if protocol.level == "query":
        choice = choose_level(maps.new_tensor(smoothed), query.level)
        level, chosen = choice.name, choice.map.cpu().double().numpy()
        peaks = find_peaks(choose_level(maps.new_tensor(filtered), query.level).map.cpu().numpy())
    elif protocol.level == "raw-peak":
        # Mask and peak choose their levels apart, each by the maps it is read from, as the official code does.
        index = int(smoothed.max(axis=(1, 2)).argmax())
        level, chosen = LEVELS[index], smoothed[index]
        peaks = find_peaks(filtered[int(filtered.max(axis=(1, 2)).argmax())])
    else:
        raise GenLangSplatError(f'Found the level rule "{protocol.level}" in a protocol; expected query or raw-peak.')
    if protocol.min_max:
        lowered = chosen - chosen.min()
        chosen = lowered / (lowered.max() + 1e-9)
    mask = chosen > (query.threshold if protocol.threshold is None else protocol.threshold)
    if protocol.majority_size:
        mask = majority_vote(mask, protocol.majority_size)
    return Prediction(level, chosen, mask, peaks if protocol.any_tied_peak else peaks[:1])


def is_hit(peaks: Iterable[tuple[int, int]], truth: CategoryTruth, target: str) -> bool:
    """Whether any of the peaks lies on the object.

    Args:
        peaks: Pixels (x, y).
        truth: Outline and boxes of the object.
        target: `outline` or `box`; a box includes its ends.
    """
    if target == "outline":
        return any(bool(truth.mask[y, x]) for x, y in peaks)
    if target == "box":
        return any(_in_box(peak, box) for peak in peaks for box in truth.boxes)
    raise GenLangSplatError(f'Found the target "{target}" in a protocol; expected outline or box.')


def _in_box(peak: tuple[int, int], box: Box) -> bool:
    x, y = peak
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def micro_mean(groups: Mapping[str, Sequence[float]]) -> float:
    """Mean over all values, whatever their group: a group with more values weighs more."""
    values = [value for group in groups.values() for value in group]
    if not values:
        raise GenLangSplatError("Found no score to average; no labelled view showed anything that was asked.")
    return float(np.mean(values))


def macro_mean(groups: Mapping[str, Sequence[float]]) -> float:
    """Mean of the groups' means: every group (a scene, or a text) weighs the same. Empty groups are left out."""
    means = [float(np.mean(group)) for group in groups.values() if len(group)]
    if not means:
        raise GenLangSplatError("Found no score to average; no labelled view showed anything that was asked.")
    return float(np.mean(means))


def psnr(prediction: Float[Tensor, "height width 3"], truth: Float[Tensor, "height width 3"]) -> float:
    """Peak signal-to-noise ratio in decibels of colours in 0 to 1, at most 100 so that equal pictures have a number."""
    error = float(((prediction - truth) ** 2).mean())
    return -10 * float(np.log10(max(error, 1e-10)))
