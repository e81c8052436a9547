"""Regions without weights: three nested levels from edges, a watershed and greedy merging.

An over-segmentation by watershed on the Lab gradient is merged region by region, cheapest border first; the partition
is recorded at three moments of that one merging, so a subpart lies within one part and a part within one whole.
"""

from __future__ import annotations

import heapq
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError

ALGORITHM_VERSION = 1
"""Raised whenever the same settings give other regions, so that stored features of older regions are not reused."""


@dataclass(frozen=True)
class WatershedSettings:
    """What shapes the regions; all of it enters the key of stored features.

    Attributes:
        subparts: Number of regions at the finest level.
        parts: Number of regions at the middle level.
        wholes: Number of regions at the coarsest level.
        working_size: Long side in pixels at which regions are found; larger images are shrunk to it first.
        fine_scale: Standard deviation in pixels of the smoothing before the gradient that draws the borders.
        coarse_scale: The same for the second gradient, which tells borders of things from texture.
        seed_spacing: Least distance in pixels between the seeds of the over-segmentation.
        color_weight: Weight of the difference of the regions' colours against the strength of their border.
        area_power: Power of the area in the merging cost; the larger, the more even the regions' sizes.
        flat_cost: Borders weaker than this (in Lab units) are no borders: they are merged whatever the region counts.
    """

    subparts: int = 120
    parts: int = 40
    wholes: int = 12
    working_size: int = 480
    fine_scale: float = 1.0
    coarse_scale: float = 3.0
    seed_spacing: int = 7
    color_weight: float = 1.0
    area_power: float = 0.5
    flat_cost: float = 0.05

    def __post_init__(self) -> None:
        if not self.subparts >= self.parts >= self.wholes >= 1:
            raise GenLangSplatError(
                f"{self.subparts} subparts, {self.parts} parts and {self.wholes} wholes cannot be nested. "
                "Give region counts of at least 1 that do not grow from subparts to wholes."
            )
        if self.working_size < 1 or self.seed_spacing < 1 or min(self.fine_scale, self.coarse_scale) <= 0:
            raise GenLangSplatError("working_size, seed_spacing, fine_scale and coarse_scale must be above 0.")


class WatershedMaskGenerator:
    """Finds nested regions at three levels by watershed and greedy merging; the same image gives the same regions.

    Every level is a partition: each pixel has a region, regions are 4-connected and numbered from 0 without gaps.
    """

    name = "watershed"

    def __init__(self, settings: WatershedSettings | None = None) -> None:
        self._settings = settings or WatershedSettings()

    @property
    def settings(self) -> dict[str, str | int | float]:
        """The settings and the version of the algorithm, for the key of stored features."""
        return {"version": ALGORITHM_VERSION, **asdict(self._settings)}

    def generate(self, image: UInt8[Tensor, "height width 3"]) -> Int32[Tensor, "levels height width"]:
        """Returns the region of every pixel at the levels subpart, part and whole.

        Args:
            image: The RGB picture.

        Raises:
            GenLangSplatError: If the image has no pixels.
        """
        height, width = image.shape[:2]
        if height == 0 or width == 0:
            raise GenLangSplatError(f"An image of {height}x{width} pixels has no regions. Give one with pixels.")
        lab = _working_lab(image.cpu().numpy(), self._settings.working_size)
        atoms, edges = _over_segment(lab, self._settings)
        levels = _merge(lab, edges, atoms, self._settings)[:, atoms]
        return torch.from_numpy(_enlarge(levels, height, width))


def _working_lab(image: np.ndarray, working_size: int) -> np.ndarray:
    """Returns the image in CIELAB, its long side at most `working_size`."""
    from PIL import Image
    from skimage.color import rgb2lab

    height, width = image.shape[:2]
    scale = working_size / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return rgb2lab(image).astype(np.float32)


def _enlarge(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Repeats pixels up to the full size, which leaves connected regions connected."""
    rows = np.arange(height) * levels.shape[1] // height
    columns = np.arange(width) * levels.shape[2] // width
    return np.ascontiguousarray(levels[:, rows[:, None], columns])


def _over_segment(lab: np.ndarray, settings: WatershedSettings) -> tuple[np.ndarray, np.ndarray]:
    """Returns the small regions everything is merged from, numbered from 0, and the edge strength per pixel."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    edges = _gradient(lab, settings.fine_scale) + _gradient(lab, settings.coarse_scale)
    smooth = ndimage.gaussian_filter(edges, 1.0)
    seeds, _ = ndimage.label(smooth == ndimage.minimum_filter(smooth, settings.seed_spacing))
    return watershed(edges, seeds) - 1, edges


def _gradient(lab: np.ndarray, scale: float) -> np.ndarray:
    """Returns the strength of the steepest Lab change per pixel, times the scale so that scales compare.

    The square root of the structure tensor's larger eigenvalue sees an edge whatever channels it shows in.
    """
    from scipy import ndimage

    down = ndimage.gaussian_filter(lab, (scale, scale, 0), order=(1, 0, 0))
    right = ndimage.gaussian_filter(lab, (scale, scale, 0), order=(0, 1, 0))
    a, b, c = (down * down).sum(-1), (right * right).sum(-1), (down * right).sum(-1)
    return scale * np.sqrt(np.maximum(0, (a + b + np.sqrt((a - b) ** 2 + 4 * c * c)) / 2))


def _merge(lab: np.ndarray, edges: np.ndarray, atoms: np.ndarray, settings: WatershedSettings) -> np.ndarray:
    """Merges atoms greedily and returns the region of every atom at the three levels, as an array (3, num_atoms)."""
    num_atoms = int(atoms.max()) + 1
    area = np.bincount(atoms.ravel(), minlength=num_atoms).astype(float)
    color = np.stack([np.bincount(atoms.ravel(), lab[..., c].ravel(), num_atoms) for c in range(3)], 1) / area[:, None]
    color = color.tolist()
    area = area.tolist()
    # neighbours[a][b] = [length of the border, summed strength]
    neighbors: list[dict[int, list[float]]] = [{} for _ in range(num_atoms)]
    pairs, strengths = [], []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        a, b = atoms[first].ravel(), atoms[second].ravel()
        border = a != b
        strength = np.maximum(edges[first], edges[second]).ravel()[border]
        pairs.append(np.minimum(a, b)[border].astype(np.int64) * num_atoms + np.maximum(a, b)[border])
        strengths.append(strength)
    codes, inverse, lengths = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    sums = np.bincount(inverse, np.concatenate(strengths), len(codes))
    for code, length, total in zip(codes.tolist(), lengths.tolist(), sums.tolist(), strict=True):
        a, b = divmod(code, num_atoms)
        neighbors[a][b] = neighbors[b][a] = [length, total]

    def cost(a: int, b: int) -> float:
        length, total = neighbors[a][b]
        difference = sum((x - y) ** 2 for x, y in zip(color[a], color[b], strict=True)) ** 0.5
        size = area[a] * area[b] / (area[a] + area[b])
        return (total / length + settings.color_weight * difference) * size**settings.area_power

    parent = list(range(num_atoms))
    version = [0] * num_atoms
    heap = [(cost(a, b), a, b, 0, 0) for a in range(num_atoms) for b in neighbors[a] if a < b]
    heapq.heapify(heap)
    remaining = num_atoms
    levels = []
    for target in (settings.subparts, settings.parts, settings.wholes):
        while heap and (remaining > target or heap[0][0] < settings.flat_cost):
            _, a, b, version_a, version_b = heapq.heappop(heap)
            if version[a] != version_a or version[b] != version_b:
                continue
            total_area = area[a] + area[b]
            color[a] = [(x * area[a] + y * area[b]) / total_area for x, y in zip(color[a], color[b], strict=True)]
            area[a] = total_area
            parent[b] = a
            version[a] += 1
            version[b] = -1
            remaining -= 1
            del neighbors[a][b]
            for c, (length, total) in neighbors[b].items():
                if c == a:
                    continue
                del neighbors[c][b]
                joined = neighbors[a].setdefault(c, [0.0, 0.0])
                joined[0] += length
                joined[1] += total
                neighbors[c][a] = joined
            for c in neighbors[a]:
                first, second = min(a, c), max(a, c)
                heapq.heappush(heap, (cost(a, c), first, second, version[first], version[second]))
        roots = np.arange(num_atoms)
        for atom in range(num_atoms):
            root = atom
            while parent[root] != root:
                root = parent[root]
            roots[atom] = root
        levels.append(np.unique(roots, return_inverse=True)[1])
    return np.stack(levels).astype(np.int32)
