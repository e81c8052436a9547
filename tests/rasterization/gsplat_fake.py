"""A stand-in for the CUDA kernels of an installed gsplat, so that its Python code runs on the CPU.

Projection and harmonics are gsplat's own torch code, compositing is that of this project. Every replaced function binds
its arguments to the signature of the original.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gsplat
import gsplat.rendering
import torch
from gsplat.cuda import _torch_impl as reference
from torch import Tensor

from genlangsplat_ns.rasterization.autograd import Composite

ORCHESTRATED = (
    *("means", "covars", "quats", "scales", "opacities", "colors", "viewmats", "Ks", "width", "height", "tile_size"),
    *("eps2d", "near_plane", "far_plane", "radius_clip", "backgrounds", "packed", "sparse_grad", "absgrad"),
    *("antialiased", "classic", "camera_model", "segmented", "channel_chunk", "has_color", "sh_degree"),
    *("extra_signals", "extra_signals_sh_degree", "with_depth", "expected_depth"),
)
"""The first arguments of the operator `rasterization_3dgs`, which does in gsplat 1.6 what Python did before."""

KERNEL_CHANNELS = (1, 2, 3, 4, 5, 6, 8, 9, 16, 17, 21, 23, 24, 32, 33, 64, 65, 128, 129, 256, 257, 512, 513)
"""The numbers of channels that gsplat 1.6 has kernels for (GSPLAT_NUM_CHANNELS)."""


def stand_in(module: Any, name: str, function: Callable[..., Any]) -> None:
    """Replaces a function of gsplat by one that gets the arguments by their names."""
    signature = inspect.signature(getattr(module, name))

    def call(*positional: Any, **named: Any) -> Any:
        bound = signature.bind(*positional, **named)
        bound.apply_defaults()
        return function(**bound.arguments)

    call.__signature__ = signature  # type: ignore[attr-defined]
    setattr(module, name, call)


def install() -> None:
    """Replaces what would call a kernel."""
    rendering = gsplat.rendering
    stand_in(gsplat, "spherical_harmonics", harmonics)
    if "extra_signals" in inspect.signature(gsplat.rasterization).parameters:
        operators = {"rasterization_3dgs": orchestrate}
        classes = ("UnscentedTransformParameters", "FThetaCameraDistortionParameters")
        vars(rendering).update({"_make_lazy_cuda_func": operators.__getitem__, **dict.fromkeys(classes, object)})
        return
    compositor = Compositor()
    stand_in(rendering, "spherical_harmonics", harmonics)
    stand_in(rendering, "fully_fused_projection", compositor.project)
    stand_in(rendering, "isect_tiles", lambda **_: (torch.zeros(1), torch.zeros(1), torch.zeros(1)))
    grid = {"tile_width", "tile_height"}
    stand_in(rendering, "isect_offset_encode", lambda **given: torch.zeros(1, *(given[name] for name in sorted(grid))))
    stand_in(rendering, "rasterize_to_pixels", compositor.composite)


def harmonics(degrees_to_use: int, coeffs: Tensor, **given: Any) -> Tensor:
    """`spherical_harmonics` with directions, or with means and view matrices."""
    if "dirs" in given:
        return reference._spherical_harmonics(degrees_to_use, given["dirs"], coeffs)
    positions = torch.linalg.inv(given["viewmats"])[:, :3, 3]
    return reference._spherical_harmonics(degrees_to_use, given["means"] - positions[:, None], coeffs)


class Compositor:
    """Projection and compositing of one view; compositing needs the depths and radii of the projection."""

    def project(self, **given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """`fully_fused_projection`: radii, means, depths, conics, and the factors of antialiasing or None."""
        assert not given["packed"] and given["covars"] is None
        covariances, _ = reference._quat_scale_to_covar_preci(given["quats"], given["scales"], compute_preci=False)
        names = ("viewmats", "Ks", "width", "height", "eps2d", "near_plane", "far_plane", "calc_compensations")
        projected = reference._fully_fused_projection(given["means"], covariances, *(given[name] for name in names))
        self._radii, _, self._depths, *_ = projected
        return projected

    def composite(self, **given: Any) -> tuple[Tensor, Tensor]:
        """`rasterize_to_pixels`: the image and the alphas."""
        background = given["backgrounds"]
        radii = self._radii if self._radii.dim() == 2 else self._radii.amax(-1)
        return Composite.apply(
            *(given[name].contiguous() for name in ("means2d", "conics", "opacities")),
            given["colors"][0].contiguous(),
            None if background is None else background[0].contiguous(),
            self._depths.detach().contiguous(),
            radii.contiguous(),
            given["image_width"],
            given["image_height"],
            given["absgrad"],
        )


def orchestrate(*positional: Any) -> tuple[Any, ...]:
    """The operator `rasterization_3dgs` of gsplat 1.6, with the number of results that its Python code unpacks."""
    given = dict(zip(ORCHESTRATED, positional, strict=False))
    assert given["tile_size"] in (4, 16), "Only tile_size in {4, 16} is supported"
    compositor = Compositor()
    given["calc_compensations"] = given["antialiased"]
    radii, means2d, depths, conics, factors = compositor.project(**given)
    shown = given["opacities"][None] if factors is None else given["opacities"][None] * factors
    colors, background = given["colors"], given["backgrounds"]
    if colors is not None and given["sh_degree"] >= 0:
        shaded = harmonics(given["sh_degree"], colors, means=given["means"], viewmats=given["viewmats"])
        colors = (shaded[0] + 0.5).clamp_min(0)
    layers = [] if colors is None else [colors]
    layers += [depths[0][:, None]] if given["with_depth"] else []
    values = torch.cat(layers, dim=1)
    if background is not None:
        background = torch.cat((background, background.new_zeros(1, values.shape[1] - background.shape[1])), dim=1)
    chunks = []
    for start in range(0, values.shape[1], given["channel_chunk"]):
        stop = start + given["channel_chunk"]
        part = values[:, start:stop]
        assert part.shape[1] in KERNEL_CHANNELS, f"Unsupported number of color channels: {part.shape[1]}"
        image, alphas = compositor.composite(
            means2d=means2d,
            conics=conics,
            opacities=shown,
            colors=part[None],
            backgrounds=None if background is None else background[:, start:stop],
            image_width=given["width"],
            image_height=given["height"],
            absgrad=given["absgrad"],
        )
        chunks.append(image)
    image = torch.cat(chunks, dim=-1)
    if given["expected_depth"]:
        image = torch.cat((image[..., :-1], image[..., -1:] / alphas.clamp(min=1e-10)), dim=-1)
    tiles = (-(-given["width"] // 16), -(-given["height"] // 16))
    unused = torch.zeros(0)
    absgrad = torch.zeros_like(means2d)
    projected = (radii, means2d, depths, conics, shown)
    return (image, alphas, None, None, absgrad, None, None, None, *projected, unused, unused, unused, unused, *tiles)
