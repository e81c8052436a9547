"""Masks of a view: which there are, how they are painted into one map, and how one is cut out of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32
from scipy.ndimage import find_objects
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RegionMask:
    """One mask of a view, kept as what lies within its bounding box.

    Attributes:
        level: Index of its level.
        top: First row of the bounding box.
        left: First column of the bounding box.
        inside: Which pixels of the box belong to it.
    """

    level: int
    top: int
    left: int
    inside: Bool[np.ndarray, "rows columns"]

    @classmethod
    def of_pixels(cls, level: int, pixels: Bool[np.ndarray, "height width"], top: int = 0, left: int = 0) -> RegionMask:
        """Takes a mask out of an image whose first pixel lies at (`top`, `left`) of the view; it must have a pixel."""
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
        """Number of its pixels."""
        return int(np.count_nonzero(self.inside))

    def pixels(self, height: int, width: int) -> Bool[np.ndarray, "height width"]:
        """The mask in a view of this size."""
        pixels = np.zeros((height, width), dtype=bool)
        pixels[self.box] = self.inside
        return pixels


@dataclass(frozen=True, eq=False)
class ViewMasks:
    """The masks of one view at all levels. Masks of a level may overlap; then the later one lies on top.

    Attributes:
        height: Height of the view.
        width: Width of the view.
        num_levels: Number of levels.
        masks: The masks; a mask's place is the number of its region and the row of its embedding.
    """

    height: int
    width: int
    num_levels: int
    masks: Sequence[RegionMask]

    def __len__(self) -> int:
        return len(self.masks)

    @classmethod
    def from_ids(cls, ids: Int32[np.ndarray, "levels height width"]) -> ViewMasks:
        """Reads masks that do not overlap from a map of ids.

        Args:
            ids: Ids from 0 within each level, with or without gaps; negative where there is no region.
        """
        masks = [
            RegionMask(level, box[0].start, box[1].start, level_ids[box] == number)
            for level, level_ids in enumerate(ids)
            for number, box in enumerate(find_objects(np.maximum(level_ids, -1) + 1))
            if box is not None
        ]
        return cls(ids.shape[1], ids.shape[2], ids.shape[0], masks)

    def paint(self) -> Int32[Tensor, "levels height width"]:
        """The number of the topmost region at every pixel of every level, -1 where there is none."""
        regions = np.full((self.num_levels, self.height, self.width), -1, dtype=np.int32)
        for number, mask in enumerate(self.masks):
            regions[mask.level][mask.box][mask.inside] = number
        return torch.from_numpy(regions)

    def visible(self) -> ViewMasks:
        """Without the masks that others of their level hide completely."""
        shown = np.unique(self.paint().numpy())
        return self._with([self.masks[number] for number in shown[shown >= 0]])

    def at_levels(self, levels: Sequence[int]) -> ViewMasks:
        """With the masks of these levels only; the number of levels stays."""
        return self._with([mask for mask in self.masks if mask.level in levels])

    def _with(self, masks: Sequence[RegionMask]) -> ViewMasks:
        return ViewMasks(self.height, self.width, self.num_levels, masks)


def cut_out(
    pixels: Float[Tensor, "3 height width"], mask: RegionMask, side: int, antialias: bool
) -> Float[Tensor, "3 side side"]:
    """Cuts a region out, alone in the middle of a square of zeros, and scales the square.

    Args:
        pixels: The view.
        mask: The region.
        side: Width and height of the result.
        antialias: Whether shrinking averages pixels, or only interpolates between neighbors as OpenCV does.
    """
    rows, columns = mask.box
    cut = pixels[:, rows, columns] * torch.from_numpy(mask.inside).to(pixels.device)
    height, width = mask.inside.shape
    length = max(height, width)
    top, left = (length - height) // 2, (length - width) // 2
    square = F.pad(cut, (left, length - width - left, top, length - height - top))
    return F.interpolate(square[None], size=(side, side), mode="bilinear", antialias=antialias, align_corners=False)[0]
