"""The compositing of one view on any device, without its weights stored in memory."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.rasterization.dispatch import render
from genlangsplat_ns.rasterization.scene_types import Gaussians, View
from genlangsplat_ns.rasterization.weights import GRADIENT_CHANNELS, backproject_by_gradient


class RenderedWeights:
    """The interface of `CompositingWeights` by rendering: products with W are renders, those with W^T gradients."""

    def __init__(self, gaussians: Gaussians, view: View, *, rasterize_mode: str = "classic") -> None:
        self.width, self.height, self.num_gaussians = view.width, view.height, len(gaussians)
        self._gaussians, self._view, self._rasterize_mode = gaussians, view, rasterize_mode

    @torch.no_grad()
    def composite(self, features: Float[Tensor, "num_gaussians channels"]) -> Float[Tensor, "height width channels"]:
        """Computes W @ features, without a gradient."""
        renders = [
            render(self._gaussians, self._view, chunk.contiguous(), rasterize_mode=self._rasterize_mode)[0][0]
            for chunk in features.split(GRADIENT_CHANNELS, dim=1)
        ]
        return torch.cat(renders, dim=-1)

    def backproject(self, targets: Float[Tensor, "height width channels"]) -> Float[Tensor, "num_gaussians channels"]:
        """Computes W^T @ targets, without a gradient."""
        return backproject_by_gradient(self._gaussians, self._view, targets, rasterize_mode=self._rasterize_mode)
