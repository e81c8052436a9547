"""Rasterization on CUDA: gsplat's own, called with the arguments both devices share."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def rasterization(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Calls `gsplat.rasterization`; `genlangsplat_ns.rasterization.rasterization` documents arguments and results."""
    # gsplat prepares its CUDA extension when imported, which a machine without a GPU need not wait for.
    import gsplat

    return gsplat.rasterization(*arguments, **options)
