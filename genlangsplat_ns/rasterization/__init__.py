"""Rasterization of 3D Gaussians with one signature on CUDA (gsplat) and on the CPU (own kernels)."""

from __future__ import annotations

from genlangsplat_ns.rasterization.dispatch import rasterization, render, shade
from genlangsplat_ns.rasterization.rendered_weights import RenderedWeights
from genlangsplat_ns.rasterization.scene_types import Gaussians, View
from genlangsplat_ns.rasterization.weight_cache import WeightCache
from genlangsplat_ns.rasterization.weights import (
    CompositingWeights,
    backproject,
    backproject_by_gradient,
    compositing_weights,
)

__all__ = [
    "CompositingWeights",
    "Gaussians",
    "RenderedWeights",
    "View",
    "WeightCache",
    "backproject",
    "backproject_by_gradient",
    "compositing_weights",
    "rasterization",
    "render",
    "shade",
]
