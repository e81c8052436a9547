"""The views of a frozen scene as lifting takes them, in this process or on any machine that reads the feature store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32
from torch import Tensor

from genlangsplat_ns.features.store import FeatureStore
from genlangsplat_ns.language.autoencoder import Autoencoder
from genlangsplat_ns.lifting.average import RegionView, ViewOperator
from genlangsplat_ns.rasterization import CompositingWeights, RenderedWeights, WeightCache, compositing_weights

JUDGED_SIDE = 320
"""Where regions are judged, the longer side of the largest view keeps at least so many pixels; with fewer, regions
become a handful of pixels, and small things are lost."""


@dataclass(frozen=True)
class PosedView:
    """Where a view was taken from, and under which key the store has its features."""

    name: str
    key: str
    viewmat: Float32[Tensor, "4 4"]
    """World to camera, OpenCV axes."""
    K: Float32[Tensor, "3 3"]
    """Focal lengths and principal point in pixels."""
    width: int
    height: int


@dataclass(frozen=True)
class RegionViews:
    """Walks through views with their regions and latents, anew as often as asked and one at a time.

    Attributes:
        gaussians: Means, rotations, scales and opacities, as the rasterizer takes them; their device does the work.
        rasterize_mode: "classic" or "antialiased".
        views: The views.
        store: Where their regions and embeddings are.
        autoencoder: Makes latents of the embeddings; on the device of the Gaussians.
        cache: On the CPU, keeps compositing weights from one walk to the next; None makes them anew in each.
        shrink: Views are smaller by this factor.
    """

    gaussians: tuple[Tensor, Tensor, Tensor, Tensor]
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
        view = self.views[number]
        operator = self._operator(view)
        features = self.store.load(view.key)
        middle = self.shrink // 2
        # A pixel of the small view shows what lies in the middle of those it stands for.
        regions = features.regions[:, middle :: self.shrink, middle :: self.shrink]
        if self.shrink > 1:
            regions = regions[:, : operator.height, : operator.width]
        return RegionView(
            operator=operator,
            regions=regions.contiguous().to(self.device),
            latents=self.autoencoder.encode(features.embeddings.to(self.device)),
            name=f"the training view {view.name}",
            embeddings=features.embeddings,
        )

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.gaussians[0].device

    def to(self, device: torch.device | str) -> RegionViews:
        """The same views with the work done elsewhere."""
        means, quats, scales, opacities = (tensor.to(device) for tensor in self.gaussians)
        return replace(
            self, gaussians=(means, quats, scales, opacities), autoencoder=deepcopy(self.autoencoder).to(device)
        )

    def part(self, numbers: Sequence[int]) -> RegionViews:
        """Some of the views."""
        return replace(self, views=[self.views[number] for number in numbers])

    def small(self) -> RegionViews:
        """The same views in small, on which regions are judged."""
        longest = max((max(view.width, view.height) for view in self.views), default=0)
        return replace(self, shrink=max(1, longest // JUDGED_SIDE))

    def _operator(self, view: PosedView) -> ViewOperator:
        """How a view composites the Gaussians."""
        camera = view.K.clone()
        camera[:2] /= self.shrink
        position = view.viewmat, camera, view.width // self.shrink, view.height // self.shrink
        if self.gaussians[0].is_cuda:
            return RenderedWeights(*self.gaussians, *position, rasterize_mode=self.rasterize_mode)

        def extract() -> CompositingWeights:
            return compositing_weights(
                *self.gaussians, *position, rasterize_mode=self.rasterize_mode, half_precision=True
            )

        return extract() if self.cache is None else self.cache.get((view.key, self.shrink), extract)
