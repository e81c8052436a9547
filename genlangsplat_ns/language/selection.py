"""Sets of Gaussians: chosen by relevancy, cleaned up in space, combined, grown, and described."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import SelectionSettings

AUTOMATIC_RADIUS = 4.0
"""The automatic radius of the clean-up, in usual distances between a Gaussian and the next one of its kind."""

MAX_PAIRS = 50_000_000
"""Pairs of neighbors that a clean-up may look at; they take some 2 GB."""


@dataclass(frozen=True, eq=False)
class GaussianSelection:
    """Some of the Gaussians of a scene. `&`, `|`, `-` and `~` combine selections of one scene.

    Attributes:
        keep: Which Gaussians are selected.
        means: Centers of all Gaussians.
    """

    keep: Bool[Tensor, " num_gaussians"]
    means: Float[Tensor, "num_gaussians 3"]

    @property
    def count(self) -> int:
        """How many Gaussians are selected."""
        return int(self.keep.sum())

    @property
    def box(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Lowest and highest corner of the box around the selected centers; None when nothing is selected."""
        chosen = self.means[self.keep]
        if len(chosen) == 0:
            return None
        return tuple(chosen.amin(dim=0).tolist()), tuple(chosen.amax(dim=0).tolist())

    @property
    def centroid(self) -> tuple[float, ...] | None:
        """Mean of the selected centers; None when nothing is selected."""
        return tuple(self.means[self.keep].mean(dim=0).tolist()) if self.count else None

    def __and__(self, other: GaussianSelection) -> GaussianSelection:
        return self._with(self.keep & self._same_scene(other))

    def __or__(self, other: GaussianSelection) -> GaussianSelection:
        return self._with(self.keep | self._same_scene(other))

    def __sub__(self, other: GaussianSelection) -> GaussianSelection:
        return self._with(self.keep & ~self._same_scene(other))

    def __invert__(self) -> GaussianSelection:
        return self._with(~self.keep)

    def grown(self, radius: float) -> GaussianSelection:
        """Adds all Gaussians whose centers lie within a distance of a selected one.

        Raises:
            GenLangSplatError: The distance is negative.
        """
        if not 0 <= radius < float("inf"):
            raise GenLangSplatError(f"Found a distance to grow of {radius}; choose 0 or a positive length.")
        if radius == 0 or self.count == 0:
            return self
        points = _points(self.means)
        distances, _ = cKDTree(points[self._numpy()]).query(points, distance_upper_bound=np.nextafter(radius, np.inf))
        return self._with(self.keep | torch.from_numpy(distances <= radius).to(self.keep.device))

    def cleaned(self, radius: float | None = None, smallest_group: float = 0.1) -> GaussianSelection:
        """Leaves out groups that are small beside the largest; Gaussians within a distance of each other hang together.

        Args:
            radius: That distance; None takes `AUTOMATIC_RADIUS` times the median distance to the nearest neighbor.
            smallest_group: The share of the largest group's Gaussians that a group needs to stay.

        Raises:
            GenLangSplatError: So many Gaussians lie within the distance that memory would not suffice.
        """
        if self.count < 2:
            return self
        groups = self._group_numbers(radius)
        sizes = np.bincount(groups)
        return self._some((sizes >= smallest_group * sizes.max())[groups])

    def groups(self, radius: float | None = None) -> list[GaussianSelection]:
        """Splits the selection into the groups that `cleaned` tells apart, the largest first.

        Raises:
            GenLangSplatError: As `cleaned`.
        """
        if self.count < 2:
            return [self] if self.count else []
        groups = self._group_numbers(radius)
        return [self._some(groups == number) for number in np.argsort(-np.bincount(groups), kind="stable")]

    def _group_numbers(self, radius: float | None) -> np.ndarray:
        """Numbers the groups, and tells the group of each selected Gaussian."""
        points = _points(self.means)[self._numpy()]
        tree = cKDTree(points)
        if radius is None:
            radius = AUTOMATIC_RADIUS * float(np.median(tree.query(points, k=2)[0][:, 1]))
        num_pairs = (int(tree.count_neighbors(tree, radius)) - len(points)) // 2
        if num_pairs > MAX_PAIRS:
            raise GenLangSplatError(
                f"{num_pairs:,} pairs of the {len(points):,} selected Gaussians lie within {radius:.3g} of each other, "
                f"more than {MAX_PAIRS:,}. Choose a smaller radius for the clean-up, or leave it out."
            )
        first, second = tree.query_pairs(radius, output_type="ndarray").T
        links = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(points), len(points)))
        return connected_components(links, directed=False)[1]

    def _some(self, of_selected: np.ndarray) -> GaussianSelection:
        """Some of the selected Gaussians."""
        keep = self.keep.clone()
        keep[self.keep] = torch.from_numpy(of_selected).to(keep.device)
        return self._with(keep)

    def require_some(self, wanted: str) -> GaussianSelection:
        """Returns itself, unless nothing is selected.

        Args:
            wanted: What was looked for, for the message.

        Raises:
            GenLangSplatError: Nothing is selected.
        """
        if self.count == 0:
            raise GenLangSplatError(
                f"No Gaussian is selected by {wanted}. Lower the threshold or the opacity floor, choose another level, "
                "or look at the scores with gen-langsplat query first."
            )
        return self

    def _with(self, keep: Tensor) -> GaussianSelection:
        return replace(self, keep=keep)

    def _numpy(self) -> np.ndarray:
        return self.keep.cpu().numpy()

    def _same_scene(self, other: GaussianSelection) -> Tensor:
        if len(self.keep) != len(other.keep):
            raise GenLangSplatError(
                f"One selection is of a scene of {len(self.keep):,} Gaussians, the other of {len(other.keep):,}. "
                "Combine selections of one scene."
            )
        return other.keep


def select_gaussians(
    relevancy: Float[Tensor, " num_gaussians"],
    means: Float[Tensor, "num_gaussians 3"],
    opacities: Float[Tensor, " num_gaussians"],
    threshold: float,
    settings: SelectionSettings | None = None,
) -> GaussianSelection:
    """Selects the Gaussians whose relevancy is above a threshold.

    Args:
        relevancy: Relevancy of each Gaussian to one text, 0 where no region was ever seen.
        means: Centers.
        opacities: Opacities in 0..1.
        threshold: Relevancy that a Gaussian must exceed, in [0, 1].
        settings: What becomes of them; None for the defaults.

    Raises:
        GenLangSplatError: The threshold is out of range, or the clean-up's radius is too large.
    """
    settings = settings or SelectionSettings()
    if not 0 <= threshold <= 1:
        raise GenLangSplatError(f"Found a threshold of {threshold}; relevancy lies in 0 to 1, choose from there.")
    keep = (relevancy > threshold) & (opacities >= settings.min_opacity) & means.isfinite().all(dim=1)
    selection = GaussianSelection(keep, means)
    return selection.cleaned(settings.radius, settings.smallest_group) if settings.clean_up else selection


def _points(means: Tensor) -> np.ndarray:
    """Centers for the tree; those that are not finite are put out of reach."""
    return means.detach().cpu().double().nan_to_num(nan=1e30, posinf=1e30, neginf=-1e30).numpy()
