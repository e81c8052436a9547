"""Rasterization of 3D Gaussians on CUDA (gsplat) and on the CPU (own kernels), with the signature of gsplat.

- `scene_types`: `Gaussians` and `View`, the arguments of all functions except the gsplat-shaped `rasterization`.
- `dispatch`: `rasterization`, `render` and `shade`, which call gsplat for CUDA tensors and the kernels for others.
- `cuda`: gsplat, in the versions that this package works with.
- `inputs`: checks of the arguments on the CPU.
- `autograd`: the kernels as autograd functions; `library` finds and loads them from `kernels/`.
- `weights`: the compositing weights of a view as a sparse matrix, and with the same interface by rendering on CUDA;
  and those of many views within a memory budget.
- `densification`, `ssim`: gsplat's densification with a maximum number of Gaussians, and a fused SSIM.
- `harmonics`: the spherical harmonics of colors.

May import only `errors`. The models, `views`, `lifting`, `language` (the kernels of attention) and `scene` use it.
"""

from __future__ import annotations

from genlangsplat_ns.rasterization.dispatch import rasterization, render, shade
from genlangsplat_ns.rasterization.scene_types import Gaussians, View
from genlangsplat_ns.rasterization.weights import CompositingWeights, RenderedWeights, WeightCache, compositing_weights

__all__ = [
    "CompositingWeights",
    "Gaussians",
    "RenderedWeights",
    "View",
    "WeightCache",
    "compositing_weights",
    "rasterization",
    "render",
    "shade",
]
