"""From relevancy maps to a mask and a peak, by the rules of a protocol."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.evaluation.labels import Mask
from genlangsplat_ns.evaluation.protocols import RenderedProtocol
from genlangsplat_ns.language.answers import choose_level
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.levels import LEVELS

Map = Float[np.ndarray, "height width"]
Peaks = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a protocol answers to one text in one view.

    Attributes:
        level: The level or rule of the mask.
        score: The highest raw relevancy of a pixel that shows something; 0 where none does.
        map: The map the threshold was laid on.
        mask: The selected pixels.
        peaks: The pixels (x, y) of the highest value that may hit, in reading order; none for a constant map. None when
            the protocol knows no peak.
    """

    level: str
    score: float
    map: Map
    mask: Mask
    peaks: Peaks | None


def predict(
    maps: Float[Tensor, "levels height width"],
    protocol: RenderedProtocol,
    query: TextQuery,
    decoded_zero: float = 0.5,
) -> Prediction:
    """Reads the mask and the peaks of one text in one view.

    All is computed in single precision, as the official code does: where ties count, its rounding decides who ties.

    Args:
        maps: Its raw relevancy per level; exactly 0 means that the level shows nothing there.
        protocol: The rules.
        query: Gives the level rule and the threshold where the protocol leaves them to the query.
        decoded_zero: The relevancy of what a latent of zero is decoded to, from `relevancy_of_zero`.
    """
    names = tuple(name for name in LEVELS[: len(maps)] if name in protocol.levels)
    shown = np.stack([maps[LEVELS.index(name)].detach().cpu().float().numpy() for name in names])
    raw = shown if protocol.empty == "zero" else fill(shown, 0.5 if protocol.empty == "half" else decoded_zero)
    filtered = smoothed = raw
    if protocol.kernel:
        filtered = np.stack([box_filter(level, protocol.kernel, protocol.kernel_border) for level in raw])
        smoothed = np.float32(0.5) * (raw + filtered)
    threshold = query.threshold if protocol.threshold is None else protocol.threshold

    def finish(level: str, values: Map, peak_map: Map) -> Prediction:
        if protocol.normalization == "min-max":
            lowered = values - values.min()
            values = lowered / (lowered.max() + np.float32(1e-9))
        mask = values > threshold
        if protocol.smoothing:
            mask = majority_vote(mask, protocol.smoothing, protocol.smoothing_border)
        peaks = find_peaks(peak_map) if protocol.any_tied_peak else find_peaks(peak_map)[:1]
        return Prediction(level, float(shown.max()), values, mask, peaks)

    if protocol.level == "query":
        choice = choose_level(torch.from_numpy(smoothed), query.level)
        peak_map = choose_level(torch.from_numpy(filtered), query.level).map
        return finish(choice.name, choice.map.numpy(), peak_map.numpy())
    if protocol.level == "raw-peak":
        # Mask and peak choose their levels apart, each by the maps it is read from, as the official code does.
        level, peak_level = (int(stack.max(axis=(1, 2)).argmax()) for stack in (smoothed, filtered))
        # A filter's rounding alone is no contrast.
        peak_map = filtered[peak_level] if np.ptp(raw[peak_level]) > 0 else raw[peak_level]
        return finish(names[level], smoothed[level], peak_map)
    answers = [finish(*answer) for answer in zip(names, smoothed, filtered, strict=True)]
    means = [float(answer.map[answer.mask].mean()) if answer.mask.any() else 0.0 for answer in answers]
    return answers[int(np.argmax(means))]


def fill(maps: Float[np.ndarray, "levels height width"], value: float) -> Float[np.ndarray, "levels height width"]:
    """Gives the pixels that show nothing a relevancy.

    A level that shows nothing in the whole view was never learned, which the official code does not know. It stays at
    zero, so that it never wins over a level that shows something.

    Args:
        maps: Raw relevancy per level, exactly 0 where a level shows nothing.
        value: The relevancy to give.
    """
    learned = maps.any(axis=(1, 2), keepdims=True)
    return np.where((maps == 0) & learned, np.float32(value), maps)


def box_filter(values: Map, size: int, border: str = "mirrored") -> Map:
    """Mean over a size x size window, in the official code's arithmetic as far as that decides about the highest value.

    The window of an even size reaches one pixel further up and left than down and right, as OpenCV's filter2D has it.

    Args:
        values: The map, in single precision.
        size: Side of the window; odd for `inside`.
        border: `mirrored` without repeating the edge (OpenCV's default), or `inside`: the mean of what the window
            covers (torch's average pooling without counting the padding).
    """
    if border == "mirrored":
        return cv2.filter2D(values, -1, np.ones((size, size)) / size**2)
    sums, counts = (
        cv2.boxFilter(array, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for array in (values.astype(np.float64), np.ones(values.shape))
    )
    means = (sums / counts).astype(np.float32)
    # torch adds up a window row by row, and its rounding decides which windows tie. That takes a hundred times as long;
    # so it is done only for rows of the map that have a value so near to the highest that rounding could make it so.
    slack = size**2 * np.finfo(np.float32).eps * np.abs(means).max()
    rows = np.flatnonzero((means >= means.max() - slack).any(axis=1))
    padded = np.pad(values, size // 2)
    exact = np.zeros((len(rows), values.shape[1]), np.float32)
    for y in range(size):
        window_rows = padded[rows + y]
        for x in range(size):
            exact += window_rows[:, x : x + values.shape[1]]
    means[rows] = exact / counts[rows].astype(np.float32)
    return means


def majority_vote(mask: Mask, size: int, border: str = "short") -> Mask:
    """Sets each pixel to the majority of the window around it; a tie, and a window without pixels, is off.

    Args:
        mask: The mask.
        size: Side of the window, odd.
        border: `short` as LangSplat's window, which ends before the last row and the last column of the picture, whose
            own values thus never vote; `inside` lets all vote.
    """
    height, width = (side - 1 if border == "short" else side for side in mask.shape)
    sums = cv2.integral(mask[:height, :width].astype(np.uint8))
    top, bottom = _window(mask.shape[0], height, size // 2)
    left, right = _window(mask.shape[1], width, size // 2)
    on = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    votes = (bottom - top)[:, None] * (right - left)[None]
    return 2 * on > votes


def _window(length: int, voters: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last voter around each of `length` positions."""
    position = np.arange(length)
    return np.clip(position - reach, 0, voters), np.clip(position + reach + 1, 0, voters)


def find_peaks(values: Map) -> Peaks:
    """Every pixel (x, y) that has exactly the highest value, in reading order; a constant map has no peak.

    The official code lets every pixel of a constant map be a peak and so scores it as a hit: a run that answers nothing
    would be perfect. This is the one deliberate difference.
    """
    highest = values.max()
    if highest == values.min():
        return ()
    rows, columns = np.nonzero(values == highest)
    return tuple(zip(columns.tolist(), rows.tolist(), strict=True))
