"""Selections of Gaussians: by relevancy, with operations to clean up, combine, grow and measure them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import SelectionSettings

AUTOMATIC_RADIUS = 4.0
"""The automatic radius of the clean-up, in median distances from a selected Gaussian to its nearest neighbor."""

MAX_PAIRS = 50_000_000
"""Maximum number of neighbor pairs in a clean-up; they take about 2 GB."""


@dataclass(frozen=True, eq=False)
class GaussianSelection:
    """A set of Gaussians of a scene. `&`, `|`, `-` and `~` combine selections of one scene.

    Attributes:
        keep: Mask of the selected Gaussians.
        means: Centers of all Gaussians.
    """

    keep: Bool[Tensor, " num_gaussians"]
    means: Float[Tensor, "num_gaussians 3"]

    @property
    def count(self) -> int:
        """Number of selected Gaussians."""
        return int(self.keep.sum())

    @property
    def box(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Minimum and maximum corner of the bounding box of the selected centers; None if nothing is selected."""
        chosen = self.means[self.keep]
        if len(chosen) == 0:
            return None
        return tuple(chosen.amin(dim=0).tolist()), tuple(chosen.amax(dim=0).tolist())

    @property
    def centroid(self) -> tuple[float, ...] | None:
        """Mean of the selected centers; None if nothing is selected."""
        return tuple(self.means[self.keep].mean(dim=0).tolist()) if self.count else None

    def __and__(self, other: GaussianSelection) -> GaussianSelection:
        return self._with_mask(self.keep & self._mask_of(other))

    def __or__(self, other: GaussianSelection) -> GaussianSelection:
        return self._with_mask(self.keep | self._mask_of(other))

    def __sub__(self, other: GaussianSelection) -> GaussianSelection:
        return self._with_mask(self.keep & ~self._mask_of(other))

    def __invert__(self) -> GaussianSelection:
        return self._with_mask(~self.keep)

    def grown(self, radius: float) -> GaussianSelection:
        """Adds all Gaussians whose centers lie within `radius` of a selected center.

        Raises:
            GenLangSplatError: The radius is negative or not finite.
        """
        if not 0 <= radius < float("inf"):
            raise GenLangSplatError(f"Found a distance to grow of {radius}; choose 0 or a positive length.")
        if radius == 0 or self.count == 0:
            return self
        points = _finite_points(self.means)
        tree = cKDTree(points[self._numpy_mask()])
        distances, _ = tree.query(points, distance_upper_bound=np.nextafter(radius, np.inf))
        return self._with_mask(self.keep | torch.from_numpy(distances <= radius).to(self.keep.device))

    def cleaned(self, radius: float | None = None, smallest_group: float = 0.1) -> GaussianSelection:
        """Removes groups smaller than a share of the largest one.

        Gaussians within `radius` of each other belong to one group; None takes `AUTOMATIC_RADIUS` times the median
        distance to the nearest neighbor.

        Raises:
            GenLangSplatError: More than `MAX_PAIRS` pairs of Gaussians lie within the radius.
        """
        if self.count < 2:
            return self
        groups = self._group_labels(radius)
        sizes = np.bincount(groups)
        return self._restricted((sizes >= smallest_group * sizes.max())[groups])

    def groups(self) -> list[GaussianSelection]:
        """Splits the selection into the groups of `cleaned`, by descending size."""
        if self.count < 2:
            return [self] if self.count else []
        groups = self._group_labels(None)
        return [self._restricted(groups == label) for label in np.argsort(-np.bincount(groups), kind="stable")]

    def _group_labels(self, radius: float | None) -> NDArray[np.int32]:
        """Returns the group label of each selected Gaussian."""
        points = _finite_points(self.means)[self._numpy_mask()]
        tree = cKDTree(points)
        if radius is None:
            radius = AUTOMATIC_RADIUS * float(np.median(tree.query(points, k=2)[0][:, 1]))
        num_pairs = (int(tree.count_neighbors(tree, radius)) - len(points)) // 2
        if num_pairs > MAX_PAIRS:
            raise GenLangSplatError(
                f"{num_pairs:,} pairs of the {len(points):,} selected Gaussians lie within {radius:.3g} of each other, "
                f"more than {MAX_PAIRS:,}. Choose a smaller radius for the clean-up, or turn the clean-up off."
            )
        first, second = tree.query_pairs(radius, output_type="ndarray").T
        edges = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(points), len(points)))
        labels: NDArray[np.int32] = connected_components(edges, directed=False)[1]
        return labels

    def _restricted(self, mask: NDArray[np.bool_]) -> GaussianSelection:
        """Returns the selected Gaussians for which a mask, with one entry per selected Gaussian, is true."""
        keep = self.keep.clone()
        keep[self.keep] = torch.from_numpy(mask).to(keep.device)
        return self._with_mask(keep)

    def require_some(self, wanted: str) -> GaussianSelection:
        """Returns the selection, or raises GenLangSplatError with the criterion `wanted` if it is empty."""
        if self.count == 0:
            raise GenLangSplatError(
                f"No Gaussian is selected by {wanted}. Lower the threshold or the minimum opacity, choose another "
                "level, or check the scores with gen-langsplat query first."
            )
        return self

    def _with_mask(self, keep: Tensor) -> GaussianSelection:
        return replace(self, keep=keep)

    def _numpy_mask(self) -> NDArray[np.bool_]:
        return self.keep.cpu().numpy()

    def _mask_of(self, other: GaussianSelection) -> Tensor:
        """Returns the mask of another selection after checking that it is of the same scene."""
        if len(self.keep) != len(other.keep):
            raise GenLangSplatError(
                f"One selection is from a scene with {len(self.keep):,} Gaussians, the other from a scene with "
                f"{len(other.keep):,}. Combine selections of one scene."
            )
        return other.keep


def select_gaussians(
    relevancy: Float[Tensor, " num_gaussians"],
    means: Float[Tensor, "num_gaussians 3"],
    opacities: Float[Tensor, " num_gaussians"],
    threshold: float,
    settings: SelectionSettings,
) -> GaussianSelection:
    """Selects the Gaussians whose relevancy to one text is above a threshold in [0, 1].

    Raises:
        GenLangSplatError: The radius of the clean-up is too large.
    """
    keep = (relevancy > threshold) & (opacities >= settings.min_opacity) & means.isfinite().all(dim=1)
    selection = GaussianSelection(keep, means)
    return selection.cleaned(settings.radius, settings.smallest_group) if settings.clean_up else selection


def _finite_points(means: Tensor) -> NDArray[np.float64]:
    """Returns centers for a k-d tree, which needs finite numbers: other centers are moved very far away."""
    return means.detach().cpu().double().nan_to_num(nan=1e30, posinf=1e30, neginf=-1e30).numpy()
