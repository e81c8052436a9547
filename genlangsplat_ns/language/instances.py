"""Separates the Gaussians of each class into instances: groups that are connected in space."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from genlangsplat_ns.language.settings import MAX_CORE_NEIGHBORS, LabelSettings

RADIUS_IN_SPACINGS = 4.0
"""The automatic radius of a class, in median distances from its Gaussians to their nearest neighbor in it."""

LARGEST_REACH = 4.0
"""Sizes do not connect Gaussians beyond this multiple of the radius."""

REACH_IN_SIZES = 2.0
"""Gaussians also connect over this multiple of the largest standard deviation of the smaller one: they touch."""


def find_instances(
    means: Float[Tensor, "num_gaussians 3"],
    sizes: Float[Tensor, " num_gaussians"],
    opacities: Float[Tensor, " num_gaussians"],
    class_ids: Int64[Tensor, " num_gaussians"],
    settings: LabelSettings,
) -> Int64[Tensor, " num_gaussians"]:
    """Numbers the instances of all classes from 1, class by class and from the largest to the smallest.

    Gaussians of a class connect within the radius, and beyond it where they touch by their `sizes`, the largest
    standard deviations. Only opaque Gaussians with enough others that near connect. The rest joins the instance of the
    nearest connecting Gaussian within the radius. Gaussians of the class 0, and those of groups that are much smaller
    than the largest one of their class, have the number 0.

    Returns:
        The instance of every Gaussian, on the CPU.
    """
    points = means.detach().cpu().double().numpy()
    classes = class_ids.cpu().numpy()
    opaque = opacities.detach().cpu().numpy() >= settings.min_opacity
    reaches = REACH_IN_SIZES * sizes.detach().cpu().double().numpy()
    finite = np.isfinite(points).all(axis=1)
    instances = np.zeros(len(points), dtype=np.int64)
    last = 0
    labeled = np.flatnonzero((classes > 0) & finite)
    labeled = labeled[np.argsort(classes[labeled], kind="stable")]
    _, starts = np.unique(classes[labeled], return_index=True)
    for rows in np.split(labeled, starts[1:]):
        groups = _groups(points[rows], reaches[rows], opaque[rows], settings)
        instances[rows] = np.where(groups > 0, groups + last, 0)
        last += int(groups.max(initial=0))
    return torch.from_numpy(instances)


def _groups(
    points: NDArray[np.float64],
    reaches: NDArray[np.float64],
    opaque: NDArray[np.bool_],
    settings: LabelSettings,
) -> NDArray[np.int64]:
    """Numbers the groups of one class from 1 by descending size; 0 for points in none."""
    groups = np.zeros(len(points), dtype=np.int64)
    if np.count_nonzero(opaque) < 2:
        groups[opaque] = 1
        return groups
    solid = points[opaque]
    tree = cKDTree(solid)
    distances, neighbors = tree.query(solid, k=min(MAX_CORE_NEIGHBORS + 1, len(solid)))
    radius = settings.radius if settings.radius is not None else _automatic_radius(distances[:, 1])
    own = reaches[opaque]
    # A Gaussian as large as the scene, as in skies, must not connect everything.
    reach = np.minimum(np.minimum(own[:, None], own[neighbors]), LARGEST_REACH * radius)
    within = distances <= np.maximum(radius, reach)
    # The first neighbor of a point is the point itself, or one at the same place.
    core = within.sum(axis=1) > min(settings.core_neighbors, len(solid) - 1)
    if not core.any():
        return groups
    labels = _components(solid[core], radius, core, neighbors, within)
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    numbers = np.zeros(len(sizes), dtype=np.int64)
    kept = order[sizes[order] >= settings.smallest_instance * sizes.max()]
    numbers[kept] = np.arange(1, len(kept) + 1)
    nearest_distance, nearest = cKDTree(solid[core]).query(points, distance_upper_bound=np.nextafter(radius, np.inf))
    joins = nearest_distance <= radius
    groups[joins] = numbers[labels[nearest[joins]]]
    return groups


def _automatic_radius(nearest: NDArray[np.float64]) -> float:
    """Derives the radius of a class from the distances of its points to their nearest neighbors."""
    apart = nearest[nearest > 0]
    # All at one place: any distance connects them.
    return RADIUS_IN_SPACINGS * float(np.median(apart)) if len(apart) else 1e-6


def _components(
    points: NDArray[np.float64],
    radius: float,
    core: NDArray[np.bool_],
    neighbors: NDArray[np.intp],
    within: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """Connects core points within the radius of each other, with a bounded number of pairs per point.

    Nearest neighbors alone would separate dense clusters. So the points of one cell, whose diagonal is the radius, are
    connected too, and so are the first points of near cells.
    """
    number = np.full(len(core), -1)
    number[core] = np.arange(len(points))
    near = within[core] & core[neighbors[core]]
    first, column = np.nonzero(near)
    second = number[neighbors[core][first, column]]
    cells = np.floor((points - points.min(axis=0)) * (np.sqrt(3) / radius)).astype(np.int64)
    _, heads, cell_of = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    cell_of = cell_of.reshape(-1)
    across = heads[cKDTree(points[heads]).query_pairs(radius, output_type="ndarray")]
    rows = np.concatenate([first, np.arange(len(points)), across[:, 0]])
    columns = np.concatenate([second, heads[cell_of], across[:, 1]])
    edges = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(points), len(points)))
    labels: NDArray[np.int32] = connected_components(edges, directed=False)[1]
    return labels
