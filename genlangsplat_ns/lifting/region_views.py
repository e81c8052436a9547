"""The views of a frozen scene with regions from the feature store, for this process or for the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch

from genlangsplat_ns.features.store import FeatureStore
from genlangsplat_ns.language.autoencoder import Autoencoder
from genlangsplat_ns.lifting.regions import RegionView, ViewOperator
from genlangsplat_ns.rasterization import (
    CompositingWeights,
    Gaussians,
    RenderedWeights,
    View,
    WeightCache,
    compositing_weights,
)

SMALL_SIDE = 320
"""Minimum longer side of the largest downscaled view in pixels; with fewer, the regions of small objects vanish."""


@dataclass(frozen=True)
class PosedView:
    """A view and the key of its features."""

    name: str
    """File name of the photograph."""
    key: str
    """Key of the view in the feature store."""
    view: View


@dataclass(frozen=True)
class RegionViews:
    """A sequence of views with their regions and latents; each view is loaded when it is accessed.

    Attributes:
        gaussians: Views are processed on their device, on which the autoencoder must be too.
        rasterize_mode: "classic" or "antialiased".
        cache: Keeps compositing weights of CPU views between passes; None extracts them in every pass.
        downscale: Factor that divides the resolution of the views.
    """

    gaussians: Gaussians
    rasterize_mode: str
    views: Sequence[PosedView]
    store: FeatureStore
    autoencoder: Autoencoder
    cache: WeightCache | None = None
    downscale: int = 1

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[RegionView]:
        return (self[number] for number in range(len(self)))

    @torch.no_grad()
    def __getitem__(self, number: int) -> RegionView:
        posed = self.views[number]
        operator = self._operator(posed)
        features = self.store.load(posed.key)
        middle = self.downscale // 2
        # A downscaled pixel has the region of the middle one of the pixels that it covers.
        regions = features.regions[:, middle :: self.downscale, middle :: self.downscale]
        if self.downscale > 1:
            regions = regions[:, : operator.height, : operator.width]
        return RegionView(
            operator=operator,
            regions=regions.contiguous().to(self.device),
            latents=self.autoencoder.encode(features.embeddings.to(self.device)),
            name=f"the training view {posed.name}",
            embeddings=features.embeddings,
        )

    @property
    def device(self) -> torch.device:
        """The device on which views are processed."""
        return self.gaussians.device

    def to(self, device: torch.device | str) -> RegionViews:
        """Moves the processing to another device."""
        autoencoder = deepcopy(self.autoencoder).to(device)
        views = [replace(posed, view=posed.view.to(device)) for posed in self.views]
        return replace(self, gaussians=self.gaussians.to(device), views=views, autoencoder=autoencoder)

    def subset(self, numbers: Sequence[int]) -> RegionViews:
        """Selects views by their numbers."""
        return replace(self, views=[self.views[number] for number in numbers])

    def small(self) -> RegionViews:
        """The same views downscaled, which suffice for residuals and region weights."""
        longest = max((max(posed.view.width, posed.view.height) for posed in self.views), default=0)
        return replace(self, downscale=max(1, longest // SMALL_SIDE))

    def _operator(self, posed: PosedView) -> ViewOperator:
        """The compositing of the Gaussians into a view."""
        view = posed.view.downscaled(self.downscale)
        if self.device.type == "cuda":
            return RenderedWeights(self.gaussians, view, rasterize_mode=self.rasterize_mode)

        def extract() -> CompositingWeights:
            return compositing_weights(self.gaussians, view, rasterize_mode=self.rasterize_mode, half_precision=True)

        return extract() if self.cache is None else self.cache.get((posed.key, self.downscale), extract)
