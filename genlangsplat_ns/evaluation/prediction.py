"""Turns relevancy maps into a mask and a peak by the rules of a protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from genlangsplat_ns.evaluation.labels import Mask
from genlangsplat_ns.evaluation.protocols import RenderedProtocol
from genlangsplat_ns.language.answers import choose_level
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.levels import LEVELS

Map: TypeAlias = Float[NDArray[np.float32], "height width"]
Maps: TypeAlias = Float[NDArray[np.float32], "levels height width"]
Peaks = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of a protocol for one text in one view."""

    level: str
    """The level or level rule of the mask."""
    score: float
    """The highest raw relevancy of the pixels with content; 0 if there are none."""
    map: Map
    """The map that the threshold is applied to."""
    mask: Mask
    peaks: Peaks | None
    """Pixels (x, y) with the highest value, in reading order; empty for a constant map, None without localization."""

    def within(self, kept: Bool[Tensor, "height width"] | None) -> Prediction:
        """Returns the prediction without the pixels that are not kept."""
        return self if kept is None else replace(self, mask=self.mask & kept.cpu().numpy())


def predict(
    maps: Float[Tensor, "levels height width"], protocol: RenderedProtocol, query: TextQuery, decoded_zero: float = 0.5
) -> Prediction:
    """Computes the mask and the peaks of one text in one view.

    Computes in single precision like the official code, because rounding decides which peaks are tied.

    Args:
        maps: The raw relevancy per level; exactly 0 marks pixels without content at that level.
        query: Provides the level rule and the threshold if the protocol does not fix them.
        decoded_zero: The relevancy of the embedding that a zero latent decodes to, from `relevancy_of_zero`.
    """
    names = tuple(name for name in LEVELS[: len(maps)] if name in protocol.levels)
    shown = np.stack([maps[LEVELS.index(name)].detach().cpu().float().numpy() for name in names])
    raw = shown if protocol.empty == "zero" else fill_empty(shown, 0.5 if protocol.empty == "half" else decoded_zero)
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
        # As in the official code, mask and peak choose their levels independently, each from its own maps.
        level, peak_level = (int(stack.max(axis=(1, 2)).argmax()) for stack in (smoothed, filtered))
        # Rounding errors of the filter must not create a peak on a constant map.
        peak_map = filtered[peak_level] if np.ptp(raw[peak_level]) > 0 else raw[peak_level]
        return finish(names[level], smoothed[level], peak_map)
    answers = [finish(*answer) for answer in zip(names, smoothed, filtered, strict=True)]
    means = [float(answer.map[answer.mask].mean()) if answer.mask.any() else 0.0 for answer in answers]
    return answers[int(np.argmax(means))]


def fill_empty(maps: Maps, value: float) -> Maps:
    """Sets the raw relevancy of pixels without content, which is exactly 0, to a value.

    A level without content in the whole view was not trained, a case that the official code does not have. It stays at
    zero, so it is never preferred to a trained level.
    """
    learned = maps.any(axis=(1, 2), keepdims=True)
    return np.where((maps == 0) & learned, np.float32(value), maps)


def box_filter(values: Map, size: int, border: str = "mirrored") -> Map:
    """Mean over a size x size window. The highest values are bit-identical to those of the official code.

    A window of even size extends one pixel further up and left than down and right, as in OpenCV's filter2D.

    Args:
        size: Side of the window; odd for `inside`.
        border: `mirrored` reflects the map without repeating the edge (OpenCV's default). `inside` averages only pixels
            inside the map (torch's average pooling with count_include_pad=False).
    """
    if border == "mirrored":
        return np.asarray(cv2.filter2D(values, -1, np.ones((size, size)) / size**2), np.float32)
    sums, counts = (
        cv2.boxFilter(array, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for array in (values.astype(np.float64), np.ones(values.shape))
    )
    means = (sums / counts).astype(np.float32)
    # torch sums a window row by row, and its rounding decides which windows tie. Doing the same is a hundred times
    # slower, so only rows of the map with a value within rounding distance of the maximum are recomputed that way.
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
    """Sets each pixel to the majority of the window around it, of odd size. Ties and empty windows give False.

    The border `short` excludes the last row and the last column of the image from every window, as LangSplat does;
    `inside` includes all pixels.
    """
    height, width = (side - 1 if border == "short" else side for side in mask.shape)
    sums = cv2.integral(mask[:height, :width].astype(np.uint8))
    top, bottom = _window(mask.shape[0], height, size // 2)
    left, right = _window(mask.shape[1], width, size // 2)
    on = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    votes = (bottom - top)[:, None] * (right - left)[None]
    majority: Mask = 2 * on > votes
    return majority


def _window(length: int, voters: int, reach: int) -> Int64[NDArray[np.int64], "2 length"]:
    """Start and end (exclusive) of the window around each of `length` positions, clipped to `voters`."""
    bounds: NDArray[np.int64] = np.arange(length) + np.array([[-reach], [reach + 1]])
    return bounds.clip(0, voters)


def find_peaks(values: Map) -> Peaks:
    """Returns every pixel (x, y) with exactly the highest value, in reading order; none for a constant map.

    This is the only deliberate difference from the official code, which counts every pixel of a constant map as a peak.
    A run with constant maps would get perfect localization there.
    """
    highest = values.max()
    if highest == values.min():
        return ()
    rows, columns = np.nonzero(values == highest)
    return tuple(zip(columns.tolist(), rows.tolist(), strict=True))
