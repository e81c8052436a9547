"""Rasterization of 3D Gaussians on CUDA (gsplat) and on the CPU (own kernels), with the signature of gsplat.

- `scene_types`: `Gaussians` and `View`, the arguments of all functions except the gsplat-shaped `rasterization`.
- `dispatch`: `rasterization`, `render` and `shade`, which select `cpu` or `cuda` by the device of the Gaussians.
- `inputs`: checks of the arguments on the CPU.
- `autograd`: the kernels as autograd functions; `library` finds and loads them from `kernels/`.
- `weights`: the compositing weights of a view as a sparse matrix; `rendered_weights` has the same interface on CUDA.
- `weight_cache`: compositing weights of many views within a memory budget.
- `densification`, `ssim`: gsplat's densification with a maximum number of Gaussians, and a fused SSIM.
- `harmonics`: the spherical harmonics of colors.

May import only `errors`. The models, `views`, `lifting`, `language` (the kernels of attention) and `scene` use it.
"""

from __future__ import annotations

from genlangsplat_ns.rasterization.dispatch import rasterization, render, shade
from genlangsplat_ns.rasterization.rendered_weights import RenderedWeights
from genlangsplat_ns.rasterization.scene_types import Gaussians, View
from genlangsplat_ns.rasterization.weight_cache import WeightCache
from genlangsplat_ns.rasterization.weights import (
    CompositingWeights,
    backproject_by_gradient,
    compositing_weights,
)

__all__ = [
    "CompositingWeights",
    "Gaussians",
    "RenderedWeights",
    "View",
    "WeightCache",
    "backproject_by_gradient",
    "compositing_weights",
    "rasterization",
    "render",
    "shade",
]
