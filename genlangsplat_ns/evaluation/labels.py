"""Labels of a view, independent of the data set they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

Box = tuple[float, float, float, float]
Polygon = tuple[tuple[float, float], ...]
Mask = Bool[NDArray[np.bool_], "height width"]
MovePoints = Callable[[Float[NDArray[np.float64], "count 2"]], Float[NDArray[np.float64], "count 2"]]


@dataclass(frozen=True)
class LabeledObject:
    """One outlined object."""

    category: str
    """The category. LERF-OVS also uses it as the query text."""
    polygon: Polygon
    """The outline as (x, y) pixels, one closed ring."""
    box: Box
    """The bounding box x0, y0, x1, y1, both ends inclusive."""

    @classmethod
    def from_polygon(cls, category: str, polygon: Iterable[Sequence[float]]) -> LabeledObject:
        """Makes an object whose box is the bounding box of its outline."""
        points = tuple((float(x), float(y)) for x, y in polygon)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return cls(category, points, (min(xs), min(ys), max(xs), max(ys)))

    def pixels(self, width: int, height: int) -> Mask:
        """Returns the filled outline, including its border."""
        corners = np.rint(np.asarray(self.polygon, np.float64)).astype(np.int32)
        return cv2.fillPoly(np.zeros((height, width), np.uint8), [corners], (1,)).astype(bool)

    def warped(self, move_points: MovePoints, move_mask: Callable[[Mask], Mask]) -> LabeledObject:
        """Maps the object to another image of the same view."""
        x0, y0, x1, y1 = self.box
        polygon, box = move_points(np.asarray(self.polygon)), move_points(np.array([(x0, y0), (x1, y1)]))
        (left, top), (right, bottom) = box.tolist()
        return LabeledObject(self.category, tuple((float(x), float(y)) for x, y in polygon), (left, top, right, bottom))


class LabeledMask:
    """One object, or all objects of a category, as a mask over the whole image.

    Only the bounding box of the mask is kept in memory, because a scene may have thousands of objects.
    """

    def __init__(self, category: str, mask: Mask) -> None:
        self.category = category
        self._size = mask.shape[1], mask.shape[0]
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        self._place = tuple(slice(found[0], found[-1] + 1) if len(found) else slice(0, 0) for found in (rows, columns))
        self._part = mask[self._place].copy()

    @property
    def box(self) -> Box:
        """The bounding box x0, y0, x1, y1, both ends inclusive. The box of an empty mask contains no pixel."""
        rows, columns = self._place
        return (float(columns.start), float(rows.start), float(columns.stop - 1), float(rows.stop - 1))

    def pixels(self, width: int, height: int) -> Mask:
        """Returns the mask over the whole image, which has this size."""
        mask = np.zeros((height, width), bool)
        mask[self._place] = self._part
        return mask

    def warped(self, move_points: MovePoints, move_mask: Callable[[Mask], Mask]) -> LabeledMask:
        """Maps the object to another image of the same view."""
        return LabeledMask(self.category, move_mask(self.pixels(*self._size)))


@dataclass(frozen=True, eq=False)
class CategoryTruth:
    """Ground truth of a category in one view: the union of its objects, and one box per object."""

    mask: Mask
    boxes: tuple[Box, ...]

    def within(self, kept: Bool[Tensor, "height width"] | None) -> CategoryTruth:
        """Returns the truth without the pixels that are not kept; None keeps all."""
        return self if kept is None else replace(self, mask=self.mask & kept.cpu().numpy())


@dataclass(frozen=True)
class ViewLabels:
    """The labels of one view, drawn on an image of `width` x `height` pixels."""

    name: str
    """The view's photograph as its labels name it: a file name, or a path with "/" between the folders."""
    width: int
    height: int
    objects: tuple[LabeledObject | LabeledMask, ...]
    skipped: tuple[str, ...] = ()
    """One message per unusable object."""
    picture: Path | None = None
    """The image the labels were drawn on, if it is stored with them."""
    notes: tuple[str, ...] = ()
    """One message per thing that was read in another way than the file may suggest."""

    @property
    def categories(self) -> tuple[str, ...]:
        """The distinct categories in order of appearance. Each is queried once per view."""
        return tuple(dict.fromkeys(item.category for item in self.objects))

    def truth(self, category: str) -> CategoryTruth:
        """Returns the union of a category's objects, and their boxes."""
        mask = np.zeros((self.height, self.width), bool)
        boxes = []
        for item in self.objects:
            if item.category == category:
                mask |= item.pixels(self.width, self.height)
                boxes.append(item.box)
        return CategoryTruth(mask, tuple(boxes))

    def warped(self, width: int, height: int, move_points: MovePoints, move_mask: Callable[[Mask], Mask]) -> ViewLabels:
        """Maps the labels to another image of the same view, of this size, with maps of pixels (x, y) and of masks."""
        objects = tuple(item.warped(move_points, move_mask) for item in self.objects)
        return replace(self, width=width, height=height, objects=objects)

    def resized(self, width: int, height: int) -> ViewLabels:
        """Scales the labels to another image size. Masks use nearest-neighbor interpolation."""
        if (width, height) == (self.width, self.height):
            return self
        scale = np.array([width / self.width, height / self.height])
        # Pixel centers are at integer coordinates.
        return self.warped(
            width, height, lambda points: (points + 0.5) * scale - 0.5, lambda mask: resized_mask(mask, width, height)
        )


def resized_mask(mask: Mask, width: int, height: int) -> Bool[NDArray[np.bool_], "new_height new_width"]:
    """Resizes a mask by nearest-neighbor interpolation."""
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def mask_polygons(mask: Mask, min_pixels: int = 1) -> list[Polygon]:
    """Returns the outlines of a mask's connected components of at least `min_pixels`, largest first, without holes."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    pieces = []
    for contour in contours:
        filled = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [contour], (1,))
        area = int(np.count_nonzero(filled))
        if len(contour) >= 3 and area >= min_pixels:
            pieces.append((area, tuple((float(x), float(y)) for x, y in contour[:, 0])))
    return [polygon for _, polygon in sorted(pieces, key=lambda piece: -piece[0])]
