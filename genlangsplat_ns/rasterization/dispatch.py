"""Rasterization on CUDA (gsplat) and on the CPU (own kernels) behind one signature."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.rasterization import cpu, cuda
from genlangsplat_ns.rasterization.scene_types import Gaussians, View


# Plain Tensor annotations: the shapes are checked by hand, so that the error messages can say what to do.
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

    The arguments are those of `gsplat.rasterization` 1.4.0, which renders CUDA tensors. On the CPU a call takes one
    camera, and skips Gaussians with NaN or infinite parameters.

    Args:
        means: Centers (N, 3), float32.
        quats: Rotations (N, 4) as w, x, y, z, of any nonzero length.
        scales: Standard deviations along the axes (N, 3), not their logarithms.
        opacities: (N,) in 0..1.
        colors: (N, channels) of any width, or harmonics (N, bases, 3) if `sh_degree` is given.
        viewmats: World-to-camera matrices (1, 4, 4), OpenCV convention (x right, y down, z forward).
        Ks: Camera matrices (1, 3, 3) in pixels.
        width, height: Size of the image in pixels.
        near_plane, far_plane: Gaussians outside this range of depths are skipped.
        eps2d: Value added to the diagonal of projected covariances, in square pixels.
        sh_degree: The degree of the harmonics to use, 0 to 3, or None for plain colors.
        packed, tile_size, sparse_grad: Options of gsplat; the CPU accepts only the defaults.
        backgrounds: (1, channels) background color; None for black.
        render_mode: "RGB", accumulated depth "D", expected depth "ED", or both as "RGB+D" or "RGB+ED" (depth is last).
        absgrad: Whether backward sets `info["means2d"].absgrad`, the sum of absolute gradients (AbsGS).
        rasterize_mode: "classic", or "antialiased" to reduce the opacity of Gaussians smaller than a pixel
            (Mip-Splatting).

    Returns:
        Image (1, height, width, channels), alphas (1, height, width, 1), and a dictionary for densification: `means2d`
        (1, N, 2) in the graph, `radii` (1, N) int32 (0 if invisible), `width`, `height`, `n_cameras` and others.

    Raises:
        GenLangSplatError: An input is invalid, or the CPU kernels are not built.
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


def render(gaussians: Gaussians, view: View, colors: Tensor, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Calls `rasterization` for one view; `colors` are (N, channels), or harmonics (N, bases, 3) with `sh_degree`."""
    camera = (view.viewmat[None], view.K[None], view.width, view.height)
    return rasterization(*gaussians.tensors(), colors, *camera, **options)


def shade(
    gaussians: Gaussians, view: View, harmonics: Float[Tensor, "num_gaussians bases 3"], *, sh_degree: int
) -> Float[Tensor, "num_gaussians 3"]:
    """Computes the colors that `rasterization` derives from harmonics of degree 0 to 3 in one view, without a gradient.

    With these colors, other values can be drawn in the same pass. Those of Gaussians outside the image are undefined.

    Raises:
        GenLangSplatError: An input is invalid, or the CPU kernels are not built.
    """
    device = cuda if gaussians.means.is_cuda else cpu
    return device.shade(gaussians, view, harmonics, sh_degree)
