"""The views of a frozen scene as lifting takes them, in this process or on any machine that reads the feature store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch

from genlangsplat_ns.features.store import FeatureStore
from genlangsplat_ns.language.autoencoder import Autoencoder
from genlangsplat_ns.lifting.average import RegionView, ViewOperator
from genlangsplat_ns.rasterization import (
    CompositingWeights,
    Gaussians,
    RenderedWeights,
    View,
    WeightCache,
    compositing_weights,
)

JUDGED_SIDE = 320
"""Where regions are judged, the longer side of the largest view keeps at least so many pixels; with fewer, regions
become a handful of pixels, and small things are lost."""


@dataclass(frozen=True)
class PosedView:
    """Where a view was taken from, and under which key the store has its features."""

    name: str
    key: str
    view: View


@dataclass(frozen=True)
class RegionViews:
    """Walks through views with their regions and latents, anew as often as asked and one at a time.

    Attributes:
        gaussians: The Gaussians; their device does the work.
        rasterize_mode: "classic" or "antialiased".
        views: The views.
        store: Where their regions and embeddings are.
        autoencoder: Makes latents of the embeddings; on the device of the Gaussians.
        cache: On the CPU, keeps compositing weights from one walk to the next; None makes them anew in each.
        shrink: Views are smaller by this factor.
    """

    gaussians: Gaussians
    rasterize_mode: str
    views: Sequence[PosedView]
    store: FeatureStore
    autoencoder: Autoencoder
    cache: WeightCache | None = None
    shrink: int = 1

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[RegionView]:
        return (self[number] for number in range(len(self)))

    @torch.no_grad()
    def __getitem__(self, number: int) -> RegionView:
        posed = self.views[number]
        operator = self._operator(posed)
        features = self.store.load(posed.key)
        middle = self.shrink // 2
        # A pixel of the small view shows what lies in the middle of those it stands for.
        regions = features.regions[:, middle :: self.shrink, middle :: self.shrink]
        if self.shrink > 1:
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
        """Where the work is done."""
        return self.gaussians.device

    def to(self, device: torch.device | str) -> RegionViews:
        """The same views with the work done elsewhere."""
        autoencoder = deepcopy(self.autoencoder).to(device)
        return replace(self, gaussians=self.gaussians.to(device), autoencoder=autoencoder)

    def part(self, numbers: Sequence[int]) -> RegionViews:
        """Some of the views."""
        return replace(self, views=[self.views[number] for number in numbers])

    def small(self) -> RegionViews:
        """The same views in small, on which regions are judged."""
        longest = max((max(posed.view.width, posed.view.height) for posed in self.views), default=0)
        return replace(self, shrink=max(1, longest // JUDGED_SIDE))

    def _operator(self, posed: PosedView) -> ViewOperator:
        """How a view composites the Gaussians."""
        view = posed.view.downscaled(self.shrink)
        if self.device.type == "cuda":
            return RenderedWeights(self.gaussians, view, rasterize_mode=self.rasterize_mode)

        def extract() -> CompositingWeights:
            return compositing_weights(self.gaussians, view, rasterize_mode=self.rasterize_mode, half_precision=True)

        return extract() if self.cache is None else self.cache.get((posed.key, self.shrink), extract)
