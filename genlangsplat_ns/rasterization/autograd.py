"""The C++ kernels as two autograd functions.

The first projects the Gaussians and evaluates their colors, the second composites them. Between the two, the projected
means are a tensor of the graph, because densification reads their gradient.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch.autograd.function import once_differentiable

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import library
from genlangsplat_ns.rasterization.inputs import empty
from genlangsplat_ns.rasterization.library import address, load_kernels
from genlangsplat_ns.rasterization.scene_types import Gaussians, View

TILE = 16
"""Side of a tile in pixels."""

Projected = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor]
"""The results of `Project`."""


def make_camera(
    view: View, position: Float[Tensor, " 3"], near_plane: float, far_plane: float, eps2d: float
) -> library.Camera:
    """Packs one camera, whose center in the world is `position`, for the kernels."""
    camera = library.Camera()
    viewmat, K = view.viewmat.detach(), view.K.detach()
    camera.rotation[:] = viewmat[:3, :3].flatten().tolist()
    camera.translation[:] = viewmat[:3, 3].tolist()
    camera.intrinsics[:] = [float(K[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))]
    camera.position[:] = position.tolist()
    camera.near_plane, camera.far_plane, camera.blur = near_plane, far_plane, eps2d
    camera.width, camera.height = view.width, view.height
    return camera


class SceneHandle:
    """Owns the sorted splats of one image between the forward and the backward pass."""

    def __init__(self, kernels: library.Kernels, inputs: ctypes.Structure) -> None:
        self.kernels = kernels
        self.pointer = ctypes.c_void_p()
        kernels.own(self, "scene_destroy", self.pointer)
        kernels.run("scene_create", ctypes.byref(inputs), ctypes.byref(self.pointer))


def _contiguous(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.contiguous()


class Project(torch.autograd.Function):
    """Projects Gaussians: means2d (1, N, 2), conics (1, N, 3), depths, opacities, colors (N, 3) or None, and radii."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        harmonics: Tensor | None,
        viewmat: Tensor,
        position: Tensor,
        camera: library.Camera,
        sh_degree: int,
        compensated: bool,
    ) -> tuple[Tensor | None, ...]:
        kernels = load_kernels()
        count = means.shape[0]
        means2d, conics, depths, shown = empty(1, count, 2), empty(1, count, 3), empty(1, count), empty(1, count)
        radii = empty(1, count, dtype=torch.int32)
        colors = None if harmonics is None else empty(count, 3)
        gaussians = _gaussians((means, quats, scales, opacities), harmonics, sh_degree, compensated)
        outputs = library.ProjectionOutputs(*map(address, (radii, means2d, depths, conics, shown, colors)))
        kernels.run("project", ctypes.byref(camera), ctypes.byref(gaussians), ctypes.byref(outputs))
        ctx.save_for_backward(means, quats, scales, opacities, harmonics, radii, colors)
        ctx.settings = (camera, sh_degree, compensated, kernels)
        ctx.mark_non_differentiable(radii)
        ctx.set_materialize_grads(False)
        return means2d, conics, depths, shown, colors, radii

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        means, quats, scales, opacities, harmonics, radii, colors = ctx.saved_tensors
        camera, sh_degree, compensated, kernels = ctx.settings
        to_means2d, to_conics, to_depths, to_opacities, to_colors = map(_contiguous, gradients[:5])
        wanted = [
            empty(*tensor.shape) if needed and tensor is not None else None
            for tensor, needed in zip((means, quats, scales, opacities, harmonics), ctx.needs_input_grad, strict=False)
        ]
        camera_wanted = ctx.needs_input_grad[5] or ctx.needs_input_grad[6]
        camera_sums = torch.empty(15, dtype=torch.float64) if camera_wanted else None
        gaussians = _gaussians((means, quats, scales, opacities), harmonics, sh_degree, compensated)
        sums = library.ProjectionGradients(
            *map(address, (to_means2d, to_depths, to_conics, to_opacities, to_colors, *wanted, camera_sums))
        )
        if to_colors is None and wanted[4] is not None:
            wanted[4].zero_()
        saved = (ctypes.c_void_p(address(tensor)) for tensor in (radii, colors))
        kernels.run("project_backward", ctypes.byref(camera), ctypes.byref(gaussians), *saved, ctypes.byref(sums))
        to_viewmat = to_position = None
        if camera_sums is not None:
            sums32 = camera_sums.float()
            to_viewmat = means.new_zeros(4, 4)
            to_viewmat[:3, :3] = sums32[:9].view(3, 3)
            to_viewmat[:3, 3] = sums32[9:12]
            to_position = sums32[12:15]
        return (*wanted, to_viewmat, to_position, None, None, None)


def _gaussians(
    geometry: tuple[Tensor, Tensor, Tensor, Tensor], harmonics: Tensor | None, sh_degree: int, compensated: bool
) -> ctypes.Structure:
    bases = 0 if harmonics is None else harmonics.shape[1]
    tensors = map(address, (*geometry, harmonics))
    return library.Gaussians(len(geometry[0]), *tensors, bases, sh_degree, compensated)


def project(
    gaussians: Gaussians,
    view: View,
    harmonics: Tensor | None = None,
    sh_degree: int = 0,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    antialiased: bool = False,
) -> Projected:
    """Runs `Project` on inputs that `check_scene` returned.

    Raises:
        GenLangSplatError: The view matrix has no inverse, or the memory does not suffice.
    """
    # Harmonics are evaluated along the ray from the camera center, which passes a gradient to the view matrix too.
    inverse, failure = torch.linalg.inv_ex(view.viewmat)
    if failure.item():
        raise GenLangSplatError(
            "viewmat has no inverse; expected a rotation, a translation and 0, 0, 0, 1. Correct the camera."
        )
    position = inverse[:3, 3]
    camera = make_camera(view, position.detach(), near_plane, far_plane, eps2d)
    projected: Projected = Project.apply(
        *gaussians.tensors(), harmonics, view.viewmat, position, camera, sh_degree, antialiased
    )
    return projected


BAND_VALUES = 1 << 20
"""Number of values that one kernel call renders without gradients, about ten milliseconds on two cores.

The viewer interrupts rendering between two lines of Python, so no line may take long.
"""


def bands(width: int, height: int, channels: int, whole: bool) -> Iterator[tuple[int, int]]:
    """Splits an image into bands of tile rows, as (first tile, number of tiles); a single band if `whole`."""
    columns, rows = -(-width // TILE), -(-height // TILE)
    step = max(1, rows if whole else BAND_VALUES // max(1, TILE * width * channels))
    for row in range(0, rows, step):
        yield row * columns, min(step, rows - row) * columns


class Composite(torch.autograd.Function):
    """Composites splats to an image (1, H, W, C) and its alphas (1, H, W, 1)."""

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        opacities: Tensor,
        features: Tensor,
        background: Tensor | None,
        depths: Tensor,
        radii: Tensor,
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Tensor, Tensor]:
        kernels = load_kernels()
        channels = features.shape[1]
        scene = SceneHandle(kernels, splat_inputs(means2d, conics, opacities, depths, radii, features, width, height))
        image, alphas = empty(1, height, width, channels), empty(1, height, width, 1)
        outputs = library.ForwardOutputs(address(features), channels, *map(address, (background, image, alphas)))
        for first_tile, tiles in bands(width, height, channels, whole=any(ctx.needs_input_grad)):
            outputs.first_tile, outputs.tiles = first_tile, tiles
            kernels.run("composite", scene.pointer, ctypes.byref(outputs))
        ctx.save_for_backward(means2d, conics, opacities, features, background, image, alphas)
        ctx.scene, ctx.absgrad = scene, absgrad
        ctx.set_materialize_grads(False)
        return image, alphas

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_image: Tensor | None, to_alphas: Tensor | None) -> tuple[Tensor | None, ...]:
        means2d, conics, opacities, features, background, image, alphas = ctx.saved_tensors
        if to_image is None:
            to_image = empty(*image.shape).zero_()
        to_image, to_alphas = to_image.contiguous(), _contiguous(to_alphas)
        geometry = any(ctx.needs_input_grad[:3])
        grads = [empty(*tensor.shape) if geometry else None for tensor in (means2d, conics, opacities)]
        absolute = empty(*means2d.shape) if geometry and ctx.absgrad else None
        to_features = empty(*features.shape) if ctx.needs_input_grad[3] else None
        if geometry or to_features is not None:
            pointers = map(address, (image, alphas, to_image, to_alphas, conics))
            inputs = library.BackwardInputs(address(features), features.shape[1], *pointers, features.shape[0])
            outputs = library.BackwardOutputs(*map(address, (*grads, absolute, to_features)))
            ctx.scene.kernels.run("composite_backward", ctx.scene.pointer, ctypes.byref(inputs), ctypes.byref(outputs))
        if absolute is not None:
            means2d.absgrad = absolute
        to_background = None
        if background is not None and ctx.needs_input_grad[4]:
            to_background = ((1.0 - alphas) * to_image).sum(dim=(0, 1, 2))
        return (*grads, to_features, to_background, None, None, None, None, None)


def splat_inputs(
    means2d: Float[Tensor, "1 num_gaussians 2"],
    conics: Float[Tensor, "1 num_gaussians 3"],
    opacities: Float[Tensor, "1 num_gaussians"],
    depths: Float[Tensor, "1 num_gaussians"],
    radii: Int32[Tensor, "1 num_gaussians"],
    features: Float[Tensor, "num_gaussians channels"] | None,
    width: int,
    height: int,
) -> ctypes.Structure:
    """Packs projected Gaussians for the kernels; the caller must keep the tensors alive during the call."""
    tensors = map(address, (radii, means2d, depths, conics, opacities, features))
    channels = 0 if features is None else features.shape[1]
    return library.SplatInputs(means2d.shape[1], width, height, *tensors, channels)
