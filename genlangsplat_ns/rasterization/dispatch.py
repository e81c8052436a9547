"""Rasterization on CUDA (gsplat) and on the CPU (own kernels) behind one signature."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import cuda
from genlangsplat_ns.rasterization.autograd import TILE, Composite, project
from genlangsplat_ns.rasterization.inputs import (
    MAX_SH_DEGREE,
    RASTERIZE_MODES,
    RENDER_MODES,
    check_choice,
    check_scene,
    check_tensor,
    memory_for,
)
from genlangsplat_ns.rasterization.scene_types import Gaussians, View

Rendered = tuple[Tensor, Tensor, dict[str, Any]]
"""Image, alphas and a dictionary for densification."""


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
) -> Rendered:
    """Renders Gaussians into one camera; differentiable in all parameters, the colors and the view matrix.

    The arguments are those of `gsplat.rasterization`, which renders CUDA tensors (see `cuda` for its versions). On the
    CPU a call takes one camera, and skips Gaussians with NaN or infinite parameters or projections.

    Args:
        means: Centers (N, 3), float32.
        quats: Rotations (N, 4) as w, x, y, z, of any length from 1e-19 to 1e19.
        scales: Standard deviations along the axes (N, 3), not their logarithms.
        opacities: (N,) in 0..1.
        colors: (N, channels) of any width, or harmonics (N, bases, 3) if `sh_degree` is given.
        viewmats: World-to-camera matrices (1, 4, 4), OpenCV convention (x right, y down, z forward).
        Ks: Camera matrices (1, 3, 3) in pixels.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        near_plane: Gaussians that are nearer are skipped.
        far_plane: Gaussians that are farther away are skipped.
        eps2d: Value added to the diagonal of projected covariances, in square pixels.
        sh_degree: The degree of the harmonics to use, 0 to 3, or None for plain colors.
        packed: Option of gsplat; the CPU accepts only the default.
        tile_size: Option of gsplat; the CPU accepts only the default.
        sparse_grad: Option of gsplat; the CPU accepts only the default.
        backgrounds: (1, channels) background color; None for black.
        render_mode: "RGB", accumulated depth "D", expected depth "ED", or both as "RGB+D" or "RGB+ED" (depth is last).
        absgrad: Whether backward sets `info["means2d"].absgrad`, the sum of absolute gradients (AbsGS).
        rasterize_mode: "classic", or "antialiased" to reduce the opacity of Gaussians smaller than a pixel
            (Mip-Splatting).

    Returns:
        Image (1, height, width, channels), alphas (1, height, width, 1), and a dictionary for densification: `means2d`
        (1, N, 2) in the graph, `radii` (1, N) int32 (0 if invisible; (1, N, 2) on CUDA since gsplat 1.5), `width`,
        `height`, `n_cameras` and others.

    Raises:
        GenLangSplatError: An input is invalid, the CPU kernels are not built, or gsplat is missing or not supported.
    """
    arguments = dict(locals())  # All arguments, by their names.
    if isinstance(means, Tensor) and means.is_cuda:
        return cuda.rasterize(arguments)
    _check_options(viewmats, Ks, packed, tile_size, render_mode, sparse_grad, rasterize_mode)
    gaussians, view = check_scene(means, quats, scales, opacities, viewmats[0], Ks[0], width, height)
    harmonics, features = _check_colors(colors, len(gaussians), sh_degree)
    if Ks.requires_grad:
        raise GenLangSplatError("Ks requires a gradient, which is not computed. Pass Ks.detach().")
    with_colors, with_depth = "RGB" in render_mode, render_mode != "RGB"

    means2d, conics, depths, shown, shaded, radii = project(
        gaussians,
        view,
        harmonics if with_colors else None,
        sh_degree or 0,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        antialiased=rasterize_mode == "antialiased",
    )
    values = _layers(shaded if features is None else features, depths, with_colors, with_depth)
    background = _check_background(backgrounds, values.shape[1] - with_depth if with_colors else None, with_depth)
    image, alphas = Composite.apply(
        means2d, conics, shown, values, background, depths.detach(), radii, width, height, absgrad
    )
    if render_mode.endswith("ED"):
        opaque = alphas.clamp(min=1e-10)
        if image.requires_grad:
            with memory_for(image.shape):
                image = torch.cat((image[..., :-1], image[..., -1:] / opaque), dim=-1)
        else:
            image[..., -1:] /= opaque
    info = {
        "camera_ids": None,
        "gaussian_ids": None,
        "radii": radii,
        "means2d": means2d,
        "depths": depths,
        "conics": conics,
        "opacities": shown,
        "width": width,
        "height": height,
        "tile_size": tile_size,
        "tile_width": -(-width // TILE),
        "tile_height": -(-height // TILE),
        "n_cameras": 1,
    }
    return image, alphas, info


def render(gaussians: Gaussians, view: View, colors: Tensor, **options: Any) -> Rendered:
    """Calls `rasterization` for one view; `colors` are (N, channels), or harmonics (N, bases, 3) with `sh_degree`."""
    camera = (view.viewmat[None], view.K[None], view.width, view.height)
    return rasterization(*gaussians.tensors(), colors, *camera, **options)


@torch.no_grad()
def shade(
    gaussians: Gaussians, view: View, harmonics: Float[Tensor, "num_gaussians bases 3"], *, sh_degree: int
) -> Float[Tensor, "num_gaussians 3"]:
    """Computes the colors that `rasterization` derives from harmonics of degree 0 to 3 in one view, without a gradient.

    With these colors, other values can be drawn in the same pass. Those of Gaussians outside the image are undefined.

    Raises:
        GenLangSplatError: An input is invalid, or the CPU kernels are not built.
    """
    if gaussians.means.is_cuda:
        return cuda.shade(gaussians, view, harmonics, sh_degree)
    gaussians, view = check_scene(*gaussians.tensors(), view.viewmat, view.K, view.width, view.height)
    checked, _ = _check_colors(harmonics, len(gaussians), sh_degree)
    shaded = project(gaussians, view, checked, sh_degree)[4]
    assert shaded is not None, "harmonics were given"
    return shaded


def _layers(colors: Tensor | None, depths: Tensor, with_colors: bool, with_depth: bool) -> Tensor:
    """The values of each Gaussian to composite: its colors, its depth, or both."""
    depth = depths.transpose(0, 1)
    if colors is None or not with_colors:
        return depth.contiguous()
    if not with_depth:
        return colors
    with memory_for((len(colors), colors.shape[1] + 1)):
        return torch.cat((colors, depth), dim=1)


def _check_options(
    viewmats: Tensor, Ks: Tensor, packed: bool, tile_size: int, render_mode: str, sparse_grad: bool, rasterize_mode: str
) -> None:
    check_choice("render_mode", render_mode, RENDER_MODES)
    check_choice("rasterize_mode", rasterize_mode, RASTERIZE_MODES)
    for name, tensor, side in (("viewmats", viewmats, 4), ("Ks", Ks, 3)):
        if not isinstance(tensor, Tensor) or tensor.dim() != 3 or tensor.shape[1:] != (side, side):
            found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise GenLangSplatError(f"{name} is {found}; expected a tensor of shape (1, {side}, {side}). Correct it.")
        if tensor.shape[0] != 1:
            raise GenLangSplatError(
                f"{name} holds {tensor.shape[0]} cameras; the CPU rasterizer renders one per call. Call it per camera."
            )
    fixed = {"packed": (packed, False), "sparse_grad": (sparse_grad, False), "tile_size": (tile_size, TILE)}
    for name, (value, only) in fixed.items():
        if value != only:
            raise GenLangSplatError(f"{name} is {value!r}; the CPU rasterizer supports only {only!r}. Leave it out.")


def _check_colors(colors: Tensor, count: int, sh_degree: int | None) -> tuple[Tensor | None, Tensor | None]:
    if sh_degree is None:
        return None, check_tensor("colors", colors, (count, None))
    if isinstance(sh_degree, bool) or not isinstance(sh_degree, int) or not 0 <= sh_degree <= MAX_SH_DEGREE:
        raise GenLangSplatError(f"sh_degree is {sh_degree!r}; expected None or 0 to {MAX_SH_DEGREE}. Correct it.")
    harmonics = check_tensor("colors", colors, (count, None, 3))
    if harmonics.shape[1] < (sh_degree + 1) ** 2:
        raise GenLangSplatError(
            f"colors holds {harmonics.shape[1]} harmonics per Gaussian; sh_degree {sh_degree} needs "
            f"{(sh_degree + 1) ** 2}. Lower sh_degree or add coefficients."
        )
    return harmonics, None


def _check_background(backgrounds: Tensor | None, color_channels: int | None, with_depth: bool) -> Tensor | None:
    """The background of all rendered channels; zero for depth."""
    if backgrounds is None:
        return None
    background = check_tensor("backgrounds", backgrounds, (1, color_channels))[0]
    if color_channels is None:
        return background.new_zeros(1)
    return torch.cat((background, background.new_zeros(1))) if with_depth else background
