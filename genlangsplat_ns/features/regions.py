"""The masks of a view, their map of regions, and crops of single regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from torch import Tensor

MIN_REMAINING_PIXELS = 16
"""Smallest area of a mask of which a part was removed; less is a fringe of what was removed."""

MIN_REMAINING_SHARE = 0.1
"""Smallest share of such a mask."""


@dataclass(frozen=True, eq=False)
class RegionMask:
    """One mask of a view, stored as the pixels of its bounding box, which begins at (top, left)."""

    level: int
    """Index of its level."""
    top: int
    left: int
    inside: Bool[NDArray[np.bool_], "rows columns"]

    @classmethod
    def from_pixels(
        cls, level: int, pixels: Bool[NDArray[np.bool_], "height width"], top: int = 0, left: int = 0
    ) -> RegionMask:
        """Makes a mask from a boolean image with at least one set pixel, which begins at (top, left) of the view."""
        rows, columns = pixels.any(axis=1).nonzero()[0], pixels.any(axis=0).nonzero()[0]
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cls(level, top + int(rows[0]), left + int(columns[0]), pixels[box].copy())

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the bounding box in the view."""
        rows, columns = self.inside.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.inside))

    def pixels(self, height: int, width: int) -> Bool[NDArray[np.bool_], "height width"]:
        """Returns the mask as a boolean image of the view's size."""
        pixels = np.zeros((height, width), dtype=bool)
        pixels[self.box] = self.inside
        return pixels


@dataclass(frozen=True, eq=False)
class ViewMasks:
    """The masks of one view at all levels. Where masks of a level overlap, the later one is on top.

    The index of a mask is the number of its region and the row of its embedding.
    """

    height: int
    width: int
    num_levels: int
    masks: Sequence[RegionMask]

    def __len__(self) -> int:
        return len(self.masks)

    @classmethod
    def from_ids(cls, ids: Int32[NDArray[np.int32], "levels height width"]) -> ViewMasks:
        """Makes masks from region ids at each level, from 0, with or without gaps; negative outside of regions."""
        masks = [
            RegionMask(level, box[0].start, box[1].start, level_ids[box] == number)
            for level, level_ids in enumerate(ids)
            for number, box in enumerate(find_objects(np.maximum(level_ids, -1) + 1))
            if box is not None
        ]
        return cls(ids.shape[1], ids.shape[2], ids.shape[0], masks)

    def paint(self) -> Int32[Tensor, "levels height width"]:
        """Returns the number of the topmost region at each pixel and level, -1 where there is none."""
        regions = np.full((self.num_levels, self.height, self.width), -1, dtype=np.int32)
        for number, mask in enumerate(self.masks):
            regions[mask.level][mask.box][mask.inside] = number
        return torch.from_numpy(regions)

    def visible(self) -> ViewMasks:
        """Removes the masks that are completely hidden by others of their level."""
        shown = np.unique(self.paint().numpy())
        return replace(self, masks=[self.masks[number] for number in shown[shown >= 0]])

    def at_levels(self, levels: Sequence[int]) -> ViewMasks:
        """Keeps the masks of these levels; the number of levels stays the same."""
        return replace(self, masks=[mask for mask in self.masks if mask.level in levels])

    def clipped(self, kept: Bool[NDArray[np.bool_], "height width"]) -> ViewMasks:
        """Removes the pixels that are not kept, and the masks of which only a small part remains."""
        masks = []
        for mask in self.masks:
            rest = mask.inside & kept[mask.box]
            area, before = int(np.count_nonzero(rest)), mask.area
            if area == before:
                masks.append(mask)
            elif area >= max(MIN_REMAINING_PIXELS, MIN_REMAINING_SHARE * before):
                masks.append(RegionMask.from_pixels(mask.level, rest, mask.top, mask.left))
        return replace(self, masks=masks)


def cut_out(
    pixels: Float[Tensor, "3 height width"], mask: RegionMask, side: int, antialias: bool
) -> Float[Tensor, "3 side side"]:
    """Crops a region on black, pads the crop to a square with the region in its center, and resizes it.

    With `antialias`, downscaling averages pixels; otherwise it interpolates between neighbors as OpenCV does.
    """
    rows, columns = mask.box
    cut = pixels[:, rows, columns] * torch.from_numpy(mask.inside).to(pixels.device)
    height, width = mask.inside.shape
    length = max(height, width)
    top, left = (length - height) // 2, (length - width) // 2
    square = F.pad(cut, (left, length - width - left, top, length - height - top))
    return F.interpolate(square[None], size=(side, side), mode="bilinear", antialias=antialias, align_corners=False)[0]
