"""The compositing of one view on any device, without its weights ever being written down."""

from __future__ import annotations

import torch
from torch import Tensor

from genlangsplat_ns.rasterization.weights import GRADIENT_CHANNELS, backproject_by_gradient


class RenderedWeights:
    """What `CompositingWeights` does, by rendering: products with W are renders, products with W^T their gradients.

    Args:
        means, quats, scales, opacities: The Gaussians, as for `rasterization`.
        viewmat: World-to-camera matrix (4, 4), OpenCV convention.
        K: Camera matrix (3, 3) in pixels.
        width, height: Size of the view in pixels.
        rasterize_mode: "classic" or "antialiased".
    """

    def __init__(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        viewmat: Tensor,
        K: Tensor,
        width: int,
        height: int,
        *,
        rasterize_mode: str = "classic",
    ) -> None:
        self.width, self.height, self.num_gaussians = width, height, len(means)
        self._geometry = means, quats, scales, opacities
        self._camera = viewmat, K
        self._rasterize_mode = rasterize_mode

    @torch.no_grad()
    def composite(self, features: Tensor) -> Tensor:
        """W @ features, without a gradient: (num_gaussians, channels) to (height, width, channels)."""
        from genlangsplat_ns.rasterization import rasterization

        means, quats, scales, opacities = self._geometry
        viewmat, K = self._camera
        renders = [
            rasterization(
                means=means,
                quats=quats,
                scales=scales,
                opacities=opacities,
                colors=chunk.contiguous(),
                viewmats=viewmat[None],
                Ks=K[None],
                width=self.width,
                height=self.height,
                rasterize_mode=self._rasterize_mode,
            )[0][0]
            for chunk in features.split(GRADIENT_CHANNELS, dim=1)
        ]
        return torch.cat(renders, dim=-1)

    def backproject(self, targets: Tensor) -> Tensor:
        """W^T @ targets, without a gradient: (height, width, channels) to (num_gaussians, channels)."""
        return backproject_by_gradient(
            *self._geometry, *self._camera, self.width, self.height, targets, rasterize_mode=self._rasterize_mode
        )
