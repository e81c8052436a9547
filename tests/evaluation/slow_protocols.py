"""Reference implementations of the published rules in plain loops. They share no code with the package."""

from __future__ import annotations

import numpy as np


def smooth(values, size, mirrored):
    """Mean of the window around every pixel. Outside the image, pixels are mirrored without the edge, or ignored.

    Mirrored windows are summed in double precision and rounded at the end; the others are summed in single precision in
    reading order.
    """
    before, after = size // 2, size - 1 - size // 2
    result = np.zeros(values.shape, np.float32)
    padded = np.pad(values, (before, after), mode="reflect")
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            if mirrored:
                result[y, x] = padded[y : y + size, x : x + size].mean(dtype=np.float64)
            else:
                rows = slice(max(0, y - before), y + after + 1)
                window = values[rows, max(0, x - before) : x + after + 1].astype(np.float32)
                result[y, x] = window.ravel().cumsum()[-1] / np.float32(window.size)
    return result


def majority(mask, size, last_votes):
    reach, (height, width) = size // 2, mask.shape
    voters = (height, width) if last_votes else (height - 1, width - 1)
    result = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            rows = slice(max(0, y - reach), min(y + reach + 1, voters[0]))
            columns = slice(max(0, x - reach), min(x + reach + 1, voters[1]))
            votes = mask[rows, columns]
            result[y, x] = np.count_nonzero(votes) > np.count_nonzero(~votes)
    return result


def first_highest(levels):
    """The first level that has the highest value of all levels."""
    best = 0
    for index in range(1, len(levels)):
        if levels[index].max() > levels[best].max():
            best = index
    return best


def lerf_answer(maps, kernel, mirrored, part_of_upper_half, last_votes):
    """Mask and tied peaks of LangSplat's LERF-OVS evaluation and its variants.

    The mask: average of map and filtered map; the level with the highest value; scaled to 0 to 1; the upper half scaled
    to 0 to 1 again; above the threshold; smoothed by a majority vote in a 7x7 window. The peak: that of the filtered
    map alone, at its own level.
    """
    filtered = [smooth(level, kernel, mirrored) for level in maps.astype(np.float32)]
    mixed = [(level + blurred) / 2 for level, blurred in zip(maps, filtered, strict=True)]
    level = first_highest(mixed)
    chosen = mixed[level] - mixed[level].min()
    chosen = chosen / (chosen.max() + 1e-9)
    upper = np.clip(2 * chosen - 1, 0, 1)
    mask = majority(upper > part_of_upper_half, 7, last_votes)
    peak_map = filtered[first_highest(filtered)]
    peaks = [
        (x, y) for y in range(peak_map.shape[0]) for x in range(peak_map.shape[1]) if peak_map[y, x] == peak_map.max()
    ]
    return level, mask, peaks


def ovs3d_answer(maps, threshold):
    """Mask of LangSplat's 3D-OVS evaluation: the level with the highest mean relevancy inside its own mask."""
    best, best_mean = 0, -1.0
    for index, level in enumerate(maps):
        inside = [value for value in level.ravel() if value > threshold]
        mean = sum(inside) / len(inside) if inside else 0.0
        if mean > best_mean:
            best, best_mean = index, mean
    return best, maps[best] > threshold


def overlap(mask, truth):
    both = either = 0
    for a, b in zip(mask.ravel().tolist(), truth.ravel().tolist(), strict=True):
        both, either = both + (a and b), either + (a or b)
    return 1.0 if either == 0 else both / either


def in_any_box(peaks, boxes):
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x, y in peaks for x0, y0, x1, y1 in boxes)
