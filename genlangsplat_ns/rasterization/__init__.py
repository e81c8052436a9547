"""Rasterization of 3D Gaussians with one signature on CUDA (gsplat) and on the CPU (own kernels)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genlangsplat_ns.rasterization import cpu, cuda
from genlangsplat_ns.rasterization.rendered_weights import RenderedWeights
from genlangsplat_ns.rasterization.weight_cache import WeightCache
from genlangsplat_ns.rasterization.weights import (
    CompositingWeights,
    backproject,
    backproject_by_gradient,
    compositing_weights,
)

__all__ = [
    "CompositingWeights",
    "RenderedWeights",
    "WeightCache",
    "backproject",
    "backproject_by_gradient",
    "compositing_weights",
    "rasterization",
    "shade",
]


# Plain Tensor annotations: shapes are checked by hand so that the message can say what to do.
def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = False,
    tile_size: int = 16,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: str = "classic",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Renders Gaussians into one camera; differentiable in all parameters, the colors and the view matrix.

    Names, order and meaning are those of `gsplat.rasterization` 1.4.0, which draws CUDA tensors. On the CPU there is
    one camera per call, and Gaussians with NaN or infinite parameters are not drawn.

    Args:
        means: Centers (N, 3), float32.
        quats: Rotations (N, 4) as w, x, y, z, of any length but zero.
        scales: Standard deviations along the axes (N, 3), not their logarithms.
        opacities: (N,) in 0..1.
        colors: (N, channels) of any width, or harmonics (N, bases, 3) when `sh_degree` is given.
        viewmats: World-to-camera matrices (1, 4, 4), OpenCV convention (x right, y down, z forward).
        Ks: Camera matrices (1, 3, 3) in pixels.
        width, height: Size of the image in pixels.
        near_plane, far_plane: Gaussians with a depth outside are not drawn.
        eps2d: Added to the diagonal of projected covariances, in square pixels.
        sh_degree: How many degrees of the harmonics to use, 0 to 3, or None for plain colors.
        packed, tile_size, sparse_grad: There for gsplat's sake; the CPU takes only the defaults.
        backgrounds: (1, channels) color behind everything, black when None.
        render_mode: "RGB", accumulated depth "D", expected depth "ED", or both as "RGB+D", "RGB+ED" (depth is last).
        absgrad: Whether backward sets `info["means2d"].absgrad`, the sum of absolute gradients (AbsGS).
        rasterize_mode: "classic", or "antialiased" to dim Gaussians smaller than a pixel (Mip-Splatting).

    Returns:
        Image (1, height, width, channels), alphas (1, height, width, 1), and what densification reads: `means2d`
        (1, N, 2) in the graph, `radii` (1, N) int32 with 0 for unseen, `width`, `height`, `n_cameras`, and more.

    Raises:
        GenLangSplatError: When an input does not fit, or the CPU kernels are not built.
    """
    device = cuda if isinstance(means, Tensor) and means.is_cuda else cpu
    return device.rasterization(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=colors,
        viewmats=viewmats,
        Ks=Ks,
        width=width,
        height=height,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        sh_degree=sh_degree,
        packed=packed,
        tile_size=tile_size,
        backgrounds=backgrounds,
        render_mode=render_mode,
        sparse_grad=sparse_grad,
        absgrad=absgrad,
        rasterize_mode=rasterize_mode,
    )


def shade(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    sh_degree: int,
) -> Tensor:
    """The colors that `rasterization` makes of harmonics for one camera, so that others can be drawn beside them.

    Args:
        means, quats, scales, opacities, viewmats, Ks, width, height, sh_degree: As for `rasterization`.
        harmonics: (N, bases, 3).

    Returns:
        (N, 3) without a gradient; what stands there for Gaussians outside the image has no meaning.

    Raises:
        GenLangSplatError: When an input does not fit, or the CPU kernels are not built.
    """
    device = cuda if isinstance(means, Tensor) and means.is_cuda else cpu
    return device.shade(means, quats, scales, opacities, harmonics, viewmats, Ks, width, height, sh_degree)
