"""Masks without a network: three nested levels from a watershed and greedy region merging.

A watershed of the gradient in CIELAB divides the image into several hundred atoms (superpixels). Neighbors are merged
pair by pair, weakest border first. The partition is recorded at three region counts, so each subpart lies in one part
and each part in one whole. Masked pixels belong to no atom, and the colors around them continue below them, so that the
outline of the mask is not a border.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.levels import LEVELS

Lab: TypeAlias = Float32[NDArray[np.float32], "height width 3"]
Inside: TypeAlias = Bool[NDArray[np.bool_], "height width"]
Atoms: TypeAlias = Int64[NDArray[np.int64], "height width"]

ALGORITHM_VERSION = 1
"""Increases whenever the same settings give different regions, so that features of older regions are not reused."""

GRADIENT_STEP = 0.01
"""Gradients are rounded to multiples of this many Lab units, so that numerical noise in flat areas becomes zero."""


@dataclass(frozen=True)
class WatershedSettings:
    """Parameters of the regions; all of them are part of the identity of stored features."""

    # Maximum number of regions at each level; if pixels are masked, times the square root of the kept share.
    subparts: int = 120
    parts: int = 40
    wholes: int = 12
    working_size: int = 480
    """Long side in pixels to which larger images are downscaled."""
    fine_scale: float = 1.5
    """Smoothing (standard deviation in pixels) of the gradient that locates the borders."""
    coarse_scale: float = 3.0
    """Smoothing (standard deviation in pixels) of the border strengths, against the influence of fine texture."""
    half_strength: float = 4.0
    """Lab gradient with a border strength of 0.5. The strength saturates, so that strong borders do not dominate."""
    seed_spacing: int = 7
    """Side in pixels of the window in which the seed of an atom is the minimum of the gradient."""
    area_power: float = 0.2
    """Power of the area in the merging cost. Larger values give regions of more similar size."""


class WatershedMaskGenerator:
    """Generates nested regions at three levels, deterministically.

    Each level is a partition of all kept pixels into 4-connected regions, numbered from 0 without gaps.
    """

    name = "watershed"

    def __init__(self, settings: WatershedSettings | None = None) -> None:
        self._settings = settings or WatershedSettings()

    @property
    def settings(self) -> dict[str, str | int | float]:
        """Settings and version of the algorithm, for the identity of stored features."""
        return {"version": ALGORITHM_VERSION, **asdict(self._settings)}

    def generate(
        self, image: UInt8[Tensor, "height width 3"], kept: Bool[Tensor, "height width"] | None = None
    ) -> ViewMasks:
        """Generates the regions of an RGB image at the levels subpart, part and whole.

        Pixels that are not `kept` (None keeps all) have no region, except that working pixels at their border are
        assigned as a whole.
        """
        height, width = image.shape[:2]
        settings = self._settings
        mask = None if kept is None else kept.cpu().numpy()
        lab, inside = _working_lab(image.cpu().numpy(), mask, settings.working_size, settings.seed_spacing**2)
        if not inside.any():
            return ViewMasks(height, width, len(LEVELS), [])
        atoms = _atoms(_gradient(lab, settings.fine_scale), settings.seed_spacing, inside)
        borders = _shared_borders(atoms, lab, settings.coarse_scale, settings.half_strength)
        merging = _Merging(np.bincount(atoms[atoms >= 0]), borders, settings.area_power)
        # A small kept area shows fewer objects, and they are larger in relation to it.
        share = math.sqrt(inside.mean())
        counts = [max(1, round(count * share)) for count in (settings.subparts, settings.parts, settings.wholes)]
        levels = np.stack([merging.merge_down_to(count) for count in counts])[:, atoms]
        levels[:, atoms < 0] = -1
        # Nearest-neighbor upscaling keeps regions connected.
        rows = np.arange(height) * lab.shape[0] // height
        columns = np.arange(width) * lab.shape[1] // width
        return ViewMasks.from_ids(levels[:, rows[:, None], columns].astype(np.int32))


def _working_lab(
    image: UInt8[NDArray[np.uint8], "height width 3"],
    kept: Bool[NDArray[np.bool_], "height width"] | None,
    working_size: int,
    smallest: int,
) -> tuple[
    Float32[NDArray[np.float32], "working_height working_width 3"],
    Bool[NDArray[np.bool_], "working_height working_width"],
]:
    """Returns the image in CIELAB, and the working pixels that contain a kept pixel; None keeps all.

    The image is downscaled to a long side of at most `working_size`. Masked working pixels have the color of the
    nearest kept one. Kept areas below `smallest` working pixels are left out.
    """
    from scipy import ndimage
    from skimage.color import rgb2lab

    if kept is None:
        working = _working_pixels(image, working_size)
        inside = np.ones(working.shape[:2], bool)
    else:
        # Pillow weights the colors by the opacity, so that masked colors do not matter.
        opacity = kept.astype(np.uint8) * 255
        working = _working_pixels(np.dstack([image, opacity]), working_size)
        share = working[..., 3]
        areas, _ = ndimage.label(share > 0)
        inside = (areas > 0) & (np.bincount(areas.ravel())[areas] >= smallest)
        # Colors of pixels that are mostly masked are imprecise.
        source = inside & (share >= 128) if (inside & (share >= 128)).any() else inside
        if inside.any():
            rows, columns = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
            working = working[rows, columns]
    return rgb2lab(working[..., :3]).astype(np.float32), inside


def _working_pixels(
    image: UInt8[NDArray[np.uint8], "height width channels"], working_size: int
) -> UInt8[NDArray[np.uint8], "working_height working_width channels"]:
    height, width = image.shape[:2]
    scale = working_size / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _derivatives(lab: Lab, scale: float) -> tuple[Lab, Lab]:
    """Returns the derivatives of smoothed Lab in x and y, multiplied by `scale` to make scales comparable."""
    from scipy import ndimage

    right: Lab = ndimage.gaussian_filter(lab, (scale, scale, 0), order=(0, 1, 0))
    down: Lab = ndimage.gaussian_filter(lab, (scale, scale, 0), order=(1, 0, 0))
    return scale * right, scale * down


def _gradient(lab: Lab, scale: float) -> Float32[NDArray[np.float32], "height width"]:
    """Returns the gradient magnitude of Lab, the square root of the structure tensor's larger eigenvalue."""
    right, down = _derivatives(lab, scale)
    horizontal, vertical, mixed = (right * right).sum(-1), (down * down).sum(-1), (right * down).sum(-1)
    steepness = np.sqrt((horizontal + vertical + np.sqrt((horizontal - vertical) ** 2 + 4 * mixed**2)) / 2)
    steps: Float32[NDArray[np.float32], "height width"] = np.round(steepness / GRADIENT_STEP).astype(np.float32)
    return steps * np.float32(GRADIENT_STEP)


def _atoms(gradient: Float32[NDArray[np.float32], "height width"], spacing: int, inside: Inside) -> Atoms:
    """Computes the watershed of the gradient from its local minima; returns the atom of each pixel, from 0.

    Pixels that are not `inside` have no atom (-1).
    """
    from scipy import ndimage
    from skimage.measure import label
    from skimage.segmentation import watershed

    minima = inside & (gradient == ndimage.minimum_filter(gradient, spacing))
    areas, count = ndimage.label(inside)
    seeded = np.bincount(areas[minima], minlength=count + 1) > 0
    seeds = label(minima, connectivity=1)
    # An area without a minimum is one more seed. The order of seeds decides ties.
    rest = label(inside & ~seeded[areas], connectivity=1)
    seeds[rest > 0] = seeds.max() + rest[rest > 0]
    atoms: Atoms = watershed(gradient, seeds, mask=inside).astype(np.int64) - 1
    return atoms


class _Merging:
    """Greedy merging of atoms: weak borders and small regions first. One of its atoms represents a region."""

    def __init__(
        self,
        areas: Int64[NDArray[np.int64], "num_atoms"],  # noqa: UP037
        borders: list[tuple[int, int, float, float]],
        area_power: float,
    ) -> None:
        self._area: list[float] = areas.astype(float).tolist()
        self._area_power = area_power
        self._region_of_atom = list(range(len(self._area)))
        # [length, summed strength] of each border; both neighbors refer to the same list.
        self._borders: list[dict[int, list[float]]] = [{} for _ in self._area]
        for first, second, length, total in borders:
            self._borders[first][second] = self._borders[second][first] = [length, total]
        # The heap keeps outdated entries; an entry is valid while the ages of its regions are unchanged.
        self._age = [0] * len(self._area)
        self._count = len(self._area)
        self._heap = [self._entry(a, b) for a in range(self._count) for b in self._borders[a] if a < b]
        heapq.heapify(self._heap)

    def merge_down_to(self, count: int) -> Int64[NDArray[np.int64], "num_atoms"]:  # noqa: UP037
        """Merges until `count` regions or only separate ones are left; returns the region of each atom, from 0."""
        while self._count > count and self._heap:
            _, first, second, first_age, second_age = heapq.heappop(self._heap)
            if (self._age[first], self._age[second]) == (first_age, second_age):
                self._merge(first, second)
        return np.unique(self._roots(), return_inverse=True)[1]

    def _entry(self, first: int, second: int) -> tuple[float, int, int, int, int]:
        # The cost is the mean strength of the border times a power of half the harmonic mean of the areas.
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


def _shared_borders(atoms: Atoms, lab: Lab, scale: float, half_strength: float) -> list[tuple[int, int, float, float]]:
    """Returns border length (in pixel edges) and summed strength of each pair of neighboring atoms."""
    num_atoms = int(atoms.max()) + 1
    pairs, strengths = [], []
    sides: tuple[tuple[Any, Any], ...] = ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]))
    for derivative, (here, there) in zip(_derivatives(lab, scale), sides, strict=True):
        # Only across the border: the full gradient on a thin strip would prevent merging the atoms along it.
        steepness = np.sqrt((derivative * derivative).sum(-1))
        crossing = (atoms[here] != atoms[there]) & (atoms[here] >= 0) & (atoms[there] >= 0)
        first, second = atoms[here][crossing], atoms[there][crossing]
        strongest = np.maximum(steepness[here], steepness[there])[crossing]
        pairs.append(np.minimum(first, second) * num_atoms + np.maximum(first, second))
        strengths.append(strongest / (strongest + half_strength))
    codes, inverse, lengths = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    totals = np.bincount(inverse, np.concatenate(strengths), len(codes))
    first, second = codes // num_atoms, codes % num_atoms
    return list(zip(first.tolist(), second.tolist(), lengths.astype(float).tolist(), totals.tolist(), strict=True))
