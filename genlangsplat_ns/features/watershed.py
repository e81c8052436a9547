"""Regions without weights: three nested levels from edges, a watershed and greedy merging.

A watershed on the gradient in CIELAB cuts the image into several hundred atoms. Neighbors are then merged one pair at
a time, weakest border first, and the partition is recorded at three moments of that one merging, so that a subpart
lies within one part and a part within one whole.
"""

from __future__ import annotations

import heapq
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.regions import ViewMasks

ALGORITHM_VERSION = 1
"""Raised whenever the same settings give other regions, so that stored features of older regions are not reused."""

GRADIENT_STEP = 0.01
"""Gradients are rounded to this many Lab units: what rounding noise leaves of a flat area is then flat indeed."""


@dataclass(frozen=True)
class WatershedSettings:
    """What shapes the regions; all of it enters the key of stored features.

    Attributes:
        subparts: Number of regions at the finest level, unless the image falls into fewer.
        parts: The same for the middle level.
        wholes: The same for the coarsest level.
        working_size: Long side in pixels at which regions are found; larger images are shrunk to it first.
        fine_scale: Smoothing (standard deviation, pixels) before the gradient that draws the borders.
        coarse_scale: Smoothing before the gradient that weighs them; it lets texture such as fur or print count less.
        half_strength: Lab gradient at which a border counts half. Beyond it strength levels off, so that a glaring
            border does not outweigh a clear one in the shade.
        seed_spacing: Side in pixels of the window in which an atom's seed is the point of least gradient.
        area_power: Power of the area in the merging cost: the larger it is, the more even are the regions' sizes.
    """

    subparts: int = 120
    parts: int = 40
    wholes: int = 12
    working_size: int = 480
    fine_scale: float = 1.5
    coarse_scale: float = 3.0
    half_strength: float = 4.0
    seed_spacing: int = 7
    area_power: float = 0.2

    def __post_init__(self) -> None:
        if not self.subparts >= self.parts >= self.wholes >= 1:
            raise GenLangSplatError(
                f"{self.subparts} subparts, {self.parts} parts and {self.wholes} wholes cannot be nested. "
                "Give region counts of at least 1 that do not grow from subparts to wholes."
            )
        for name in ("working_size", "fine_scale", "coarse_scale", "half_strength", "seed_spacing"):
            if getattr(self, name) <= 0:
                raise GenLangSplatError(f"{name} is {getattr(self, name)}. Give a number above 0.")


class WatershedMaskGenerator:
    """Finds nested regions at three levels; the same image and settings always give the same regions.

    Every level is a partition: each pixel has a region, regions are 4-connected and numbered from 0 without gaps.
    """

    name = "watershed"

    def __init__(self, settings: WatershedSettings | None = None) -> None:
        self._settings = settings or WatershedSettings()

    @property
    def settings(self) -> dict[str, str | int | float]:
        """The settings and the version of the algorithm, for the key of stored features."""
        return {"version": ALGORITHM_VERSION, **asdict(self._settings)}

    def generate(self, image: UInt8[Tensor, "height width 3"]) -> ViewMasks:
        """Finds the regions at the levels subpart, part and whole; at each, every pixel is in one of them.

        Args:
            image: The RGB picture.

        Raises:
            GenLangSplatError: If the image has no pixels.
        """
        height, width = image.shape[:2]
        if height == 0 or width == 0:
            raise GenLangSplatError(f"An image of {height}x{width} pixels has no regions. Give one with pixels.")
        settings = self._settings
        lab = _working_lab(image.cpu().numpy(), settings.working_size)
        atoms = _atoms(_gradient(lab, settings.fine_scale), settings.seed_spacing)
        borders = _shared_borders(atoms, lab, settings.coarse_scale, settings.half_strength)
        merging = _Merging(np.bincount(atoms.ravel()), borders, settings.area_power)
        counts = (settings.subparts, settings.parts, settings.wholes)
        levels = np.stack([merging.merge_down_to(count) for count in counts])[:, atoms]
        # Repeated pixels leave connected regions connected.
        rows = np.arange(height) * lab.shape[0] // height
        columns = np.arange(width) * lab.shape[1] // width
        return ViewMasks.from_ids(levels[:, rows[:, None], columns].astype(np.int32))


def _working_lab(
    image: UInt8[np.ndarray, "height width 3"], working_size: int
) -> Float32[np.ndarray, "working_height working_width 3"]:
    """Returns the image in CIELAB, its long side at most `working_size`."""
    from PIL import Image
    from skimage.color import rgb2lab

    height, width = image.shape[:2]
    scale = working_size / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return rgb2lab(image).astype(np.float32)


def _derivatives(
    lab: Float32[np.ndarray, "height width 3"], scale: float
) -> tuple[Float32[np.ndarray, "height width 3"], Float32[np.ndarray, "height width 3"]]:
    """Returns the derivatives of smoothed Lab to the right and downwards, times `scale` so that scales compare."""
    from scipy import ndimage

    def smooth(values: np.ndarray, axis: int, order: int) -> np.ndarray:
        return ndimage.gaussian_filter1d(values, scale, axis=axis, order=order)

    right = smooth(smooth(lab, axis=0, order=0), axis=1, order=1)
    down = smooth(smooth(lab, axis=0, order=1), axis=1, order=0)
    return scale * right, scale * down


def _gradient(lab: Float32[np.ndarray, "height width 3"], scale: float) -> Float32[np.ndarray, "height width"]:
    """Returns the steepness of Lab at every pixel: the root of the structure tensor's larger eigenvalue.

    Unlike the gradient of one channel, it sees an edge whatever channels it shows in.
    """
    right, down = _derivatives(lab, scale)
    horizontal, vertical, mixed = (right * right).sum(-1), (down * down).sum(-1), (right * down).sum(-1)
    steepness = np.sqrt((horizontal + vertical + np.sqrt((horizontal - vertical) ** 2 + 4 * mixed**2)) / 2)
    return np.round(steepness / GRADIENT_STEP).astype(np.float32) * np.float32(GRADIENT_STEP)


def _atoms(gradient: Float32[np.ndarray, "height width"], spacing: int) -> Int64[np.ndarray, "height width"]:
    """Floods the gradient from its local minima; returns the atom of every pixel, from 0."""
    from scipy import ndimage
    from skimage.measure import label
    from skimage.segmentation import watershed

    seeds = label(gradient == ndimage.minimum_filter(gradient, spacing), connectivity=1)
    return watershed(gradient, seeds).astype(np.int64) - 1


class _Merging:
    """Atoms on their way to ever fewer regions.

    The cost of merging two regions is the mean strength of their common border times a power of their area (half the
    harmonic mean of both): weak borders and small regions go first. A region is called by one of its atoms.
    """

    def __init__(
        self,
        areas: Int64[np.ndarray, "num_atoms"],  # noqa: UP037
        borders: list[tuple[int, int, float, float]],
        area_power: float,
    ) -> None:
        self._area: list[float] = areas.astype(float).tolist()
        self._area_power = area_power
        self._region_of_atom = list(range(len(self._area)))
        # Each pair of neighbors shares one [length, summed strength], seen from both sides.
        self._borders: list[dict[int, list[float]]] = [{} for _ in self._area]
        for first, second, length, total in borders:
            self._borders[first][second] = self._borders[second][first] = [length, total]
        # The heap keeps outdated entries; an entry is good while the regions are as old as it says.
        self._age = [0] * len(self._area)
        self._count = len(self._area)
        self._heap = [self._entry(a, b) for a in range(self._count) for b in self._borders[a] if a < b]
        heapq.heapify(self._heap)

    def merge_down_to(self, count: int) -> Int64[np.ndarray, "num_atoms"]:  # noqa: UP037
        """Merges until `count` regions are left, and returns the region of every atom, from 0."""
        while self._count > count:
            _, first, second, first_age, second_age = heapq.heappop(self._heap)
            if (self._age[first], self._age[second]) == (first_age, second_age):
                self._merge(first, second)
        return np.unique(self._roots(), return_inverse=True)[1]

    def _entry(self, first: int, second: int) -> tuple[float, int, int, int, int]:
        length, total = self._borders[first][second]
        area = self._area[first] * self._area[second] / (self._area[first] + self._area[second])
        return total / length * area**self._area_power, first, second, self._age[first], self._age[second]

    def _merge(self, kept: int, gone: int) -> None:
        self._region_of_atom[gone] = kept
        self._area[kept] += self._area[gone]
        self._age[kept] += 1
        self._age[gone] = -1
        self._count -= 1
        del self._borders[kept][gone], self._borders[gone][kept]
        for other, (length, total) in self._borders[gone].items():
            del self._borders[other][gone]
            border = self._borders[kept].setdefault(other, [0.0, 0.0])
            border[0] += length
            border[1] += total
            self._borders[other][kept] = border
        for other in self._borders[kept]:
            heapq.heappush(self._heap, self._entry(*sorted((kept, other))))

    def _roots(self) -> list[int]:
        for atom, region in enumerate(self._region_of_atom):
            while region != self._region_of_atom[region]:
                region = self._region_of_atom[region]
            self._region_of_atom[atom] = region
        return self._region_of_atom


def _shared_borders(
    atoms: Int64[np.ndarray, "height width"],
    lab: Float32[np.ndarray, "height width 3"],
    scale: float,
    half_strength: float,
) -> list[tuple[int, int, float, float]]:
    """Returns for each pair of neighboring atoms the length of their border in pixel sides and its summed strength.

    Only the change of Lab *across* the border counts. A thin strip is steep everywhere, so its whole gradient would
    keep apart the pieces that lie one behind the other along it.
    """
    num_atoms = int(atoms.max()) + 1
    pairs, strengths = [], []
    sides: tuple[tuple[Any, Any], ...] = ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]))
    for derivative, (here, there) in zip(_derivatives(lab, scale), sides, strict=True):
        steepness = np.sqrt((derivative * derivative).sum(-1))
        crossing = atoms[here] != atoms[there]
        first, second = atoms[here][crossing], atoms[there][crossing]
        steepest = np.maximum(steepness[here], steepness[there])[crossing]
        pairs.append(np.minimum(first, second) * num_atoms + np.maximum(first, second))
        strengths.append(steepest / (steepest + half_strength))
    codes, inverse, lengths = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    totals = np.bincount(inverse, np.concatenate(strengths), len(codes))
    first, second = codes // num_atoms, codes % num_atoms
    return list(zip(first.tolist(), second.tolist(), lengths.astype(float).tolist(), totals.tolist(), strict=True))
