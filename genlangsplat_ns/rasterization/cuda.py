"""Rasterization on CUDA by gsplat."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genlangsplat_ns.rasterization.scene_types import Gaussians, View


def rasterization(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Calls `gsplat.rasterization`; `genlangsplat_ns.rasterization.rasterization` documents arguments and results."""
    # The import of gsplat prepares its CUDA extension, which takes time that a machine without a GPU can save.
    import gsplat

    return gsplat.rasterization(*arguments, **options)


@torch.no_grad()
def shade(gaussians: Gaussians, view: View, harmonics: Tensor, sh_degree: int) -> Tensor:
    """The CUDA side of `genlangsplat_ns.rasterization.shade`, which documents the arguments."""
    import gsplat

    directions = gaussians.means - torch.linalg.inv(view.viewmat)[:3, 3]
    return (gsplat.spherical_harmonics(sh_degree, directions, harmonics) + 0.5).clamp_(min=0.0)
