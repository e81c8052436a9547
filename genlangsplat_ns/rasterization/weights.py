"""The compositing weights of one view as a sparse matrix, and the sums over pixels that lifting needs."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import cpu, library
from genlangsplat_ns.rasterization.autograd import splat_inputs
from genlangsplat_ns.rasterization.inputs import (
    RASTERIZE_MODES,
    check_choice,
    check_geometry,
    check_image_size,
    check_tensor,
)
from genlangsplat_ns.rasterization.library import address


class CompositingWeights:
    """The sparse matrix W of one view: W[pixel, i] is the weight (opacity times transmittance) of Gaussian i there.

    Rendering is linear in what the Gaussians carry, so with the geometry frozen W is all a view needs. Made by
    `compositing_weights`; lives in memory of the kernels and is freed with the object.
    """

    def __init__(self, kernels: library.Kernels, inputs: ctypes.Structure, half_precision: bool) -> None:
        self.width, self.height, self.num_gaussians = inputs.width, inputs.height, inputs.count
        self._kernels = kernels
        self._pointer = ctypes.c_void_p()
        kernels.own(self, "weights_destroy", self._pointer)
        kernels.run("weights_create", ctypes.byref(inputs), ctypes.c_bool(half_precision), ctypes.byref(self._pointer))

    @property
    def nbytes(self) -> int:
        """Bytes of memory the weights take."""
        return self._kernels.call("weights_bytes", self._pointer)

    @property
    def num_entries(self) -> int:
        """How many pairs of a pixel and a Gaussian have a weight."""
        return self._kernels.call("weights_count", self._pointer)

    @property
    def num_visits(self) -> int:
        """How many vectors of sixteen pixels the entries fill, some of them in part."""
        return self._kernels.call("weights_visits", self._pointer)

    def composite(self, features: Tensor) -> Tensor:
        """W @ features: what rendering the features gives, without a background; differentiable in the features.

        Args:
            features: float32 (num_gaussians, channels), on the CPU.

        Returns:
            float32 (height, width, channels).

        Raises:
            GenLangSplatError: When shape, type or device do not fit.
        """
        return _Product.apply(check_tensor("features", features, (self.num_gaussians, None)), self)

    @torch.no_grad()
    def backproject(self, targets: Tensor) -> Tensor:
        """W^T @ targets: for every Gaussian the sum over pixels of weight times target.

        Args:
            targets: float32 (height, width, channels), on the CPU.

        Returns:
            float32 (num_gaussians, channels).

        Raises:
            GenLangSplatError: When shape, type or device do not fit.
        """
        targets = check_tensor("targets", targets, (self.height, self.width, None))
        sums = targets.new_empty(self.num_gaussians, targets.shape[2])
        self._kernels.run("weights_backproject", self._pointer, *_matrix(targets, targets.shape[2], sums))
        return sums

    def to_coo(self) -> Tensor:
        """The matrix as a torch sparse COO tensor (height * width, num_gaussians); pixel = y * width + x."""
        indices = torch.empty(2, self.num_entries, dtype=torch.int64)
        values = torch.empty(self.num_entries)
        arrays = (ctypes.c_void_p(address(array)) for array in (indices[0], indices[1], values))
        self._kernels.call("weights_entries", self._pointer, *arrays)
        return torch.sparse_coo_tensor(
            indices, values, (self.height * self.width, self.num_gaussians), check_invariants=False
        )


class _Product(torch.autograd.Function):
    """W @ features, whose derivative is W^T."""

    @staticmethod
    def forward(context: Any, features: Tensor, weights: CompositingWeights) -> Tensor:
        context.weights = weights
        image = features.new_empty(weights.height, weights.width, features.shape[1])
        arguments = _matrix(features, features.shape[1], image)
        weights._kernels.run("weights_composite", weights._pointer, *arguments)
        return image

    @staticmethod
    @once_differentiable
    def backward(context: Any, to_image: Tensor) -> tuple[Tensor, None]:
        return context.weights.backproject(to_image), None


def _matrix(source: Tensor, channels: int, target: Tensor) -> tuple[ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]:
    return ctypes.c_void_p(address(source)), ctypes.c_int64(channels), ctypes.c_void_p(address(target))


@torch.no_grad()
def compositing_weights(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    *,
    rasterize_mode: str = "classic",
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    half_precision: bool = False,
) -> CompositingWeights:
    """The weights with which `rasterization` blends the Gaussians into one view. CPU tensors only.

    Args:
        means, quats, scales, opacities: The Gaussians, as for `rasterization`.
        viewmat: World-to-camera matrix (4, 4), OpenCV convention.
        K: Camera matrix (3, 3) in pixels.
        width, height: Size of the view in pixels.
        rasterize_mode, near_plane, far_plane, eps2d: As for `rasterization`.
        half_precision: Whether to keep the weights in fp16: half the memory, with relative errors up to 2^-11.

    Returns:
        The sparse matrix of weights.

    Raises:
        GenLangSplatError: When an input does not fit or the kernels are not built.
    """
    check_choice("rasterize_mode", rasterize_mode, RASTERIZE_MODES)
    check_image_size(width, height)
    if isinstance(means, Tensor) and means.is_cuda:
        raise GenLangSplatError(
            "compositing_weights got CUDA tensors; the weights are made on the CPU only. Use backproject, which works "
            "on both, or move the Gaussians with .cpu()."
        )
    geometry = check_geometry(means, quats, scales, opacities, viewmat, K)
    means2d, conics, depths, shown, _, radii = cpu.project(
        geometry, None, 0, width, height, near_plane, far_plane, eps2d, rasterize_mode == "antialiased"
    )
    inputs = splat_inputs(means2d, conics, shown, depths, radii, None, width, height)
    return CompositingWeights(library.load_kernels(), inputs, half_precision)


def backproject(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    targets: Tensor,
    *,
    rasterize_mode: str = "classic",
) -> Tensor:
    """For every Gaussian the sum over the pixels of one view of its weight times the pixel's target.

    Args:
        means, quats, scales, opacities: The Gaussians, as for `rasterization`; CPU or CUDA.
        viewmat: World-to-camera matrix (4, 4), OpenCV convention.
        K: Camera matrix (3, 3) in pixels.
        width, height: Size of the view in pixels.
        targets: (height, width, channels) float32.
        rasterize_mode: "classic" or "antialiased".

    Returns:
        (num_gaussians, channels) float32, without a gradient.

    Raises:
        GenLangSplatError: When an input does not fit.
    """
    if means.is_cuda:
        return backproject_by_gradient(
            means, quats, scales, opacities, viewmat, K, width, height, targets, rasterize_mode=rasterize_mode
        )
    weights = compositing_weights(
        means, quats, scales, opacities, viewmat, K, width, height, rasterize_mode=rasterize_mode
    )
    return weights.backproject(targets)


GRADIENT_CHANNELS = 32
"""Channels rendered at once by `backproject_by_gradient`; gsplat splits wider images itself, and slows down."""


def backproject_by_gradient(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmat: Tensor,
    K: Tensor,
    width: int,
    height: int,
    targets: Float[Tensor, "height width channels"],
    *,
    rasterize_mode: str = "classic",
) -> Tensor:
    """`backproject` as the gradient of sum(render * target) with respect to features that are zero; any device."""
    from genlangsplat_ns.rasterization import rasterization

    sums = means.new_empty(means.shape[0], targets.shape[2])
    for first in range(0, targets.shape[2], GRADIENT_CHANNELS):
        chunk = targets[..., first : first + GRADIENT_CHANNELS].detach()
        with torch.enable_grad():
            features = means.new_zeros(means.shape[0], chunk.shape[2], requires_grad=True)
            image, _, _ = rasterization(
                means=means.detach(),
                quats=quats.detach(),
                scales=scales.detach(),
                opacities=opacities.detach(),
                colors=features,
                viewmats=viewmat.detach()[None],
                Ks=K.detach()[None],
                width=width,
                height=height,
                rasterize_mode=rasterize_mode,
            )
            (sums[:, first : first + GRADIENT_CHANNELS],) = torch.autograd.grad(image, features, chunk[None])
    return sums
