"""The compositing weights of one view and their products for lifting: a sparse matrix, or renders on any device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import library
from genlangsplat_ns.rasterization.autograd import project, splat_inputs
from genlangsplat_ns.rasterization.cuda import CHANNEL_CHUNK
from genlangsplat_ns.rasterization.dispatch import render
from genlangsplat_ns.rasterization.inputs import RASTERIZE_MODES, check_choice, check_scene, check_tensor, empty
from genlangsplat_ns.rasterization.library import address
from genlangsplat_ns.rasterization.scene_types import Gaussians, View


class CompositingWeights:
    """The sparse matrix W of one view: W[pixel, i] is the weight (opacity times transmittance) of Gaussian i there.

    Rendering is linear in the features of the Gaussians, so with frozen geometry W replaces the rasterizer. Created by
    `compositing_weights`; the kernels own the memory and free it with the object.
    """

    def __init__(self, kernels: library.Kernels, inputs: ctypes.Structure, half_precision: bool) -> None:
        self.width, self.height, self.num_gaussians = inputs.width, inputs.height, inputs.count
        self._kernels = kernels
        self._pointer = ctypes.c_void_p()
        kernels.own(self, "weights_destroy", self._pointer)
        kernels.run("weights_create", ctypes.byref(inputs), ctypes.c_bool(half_precision), ctypes.byref(self._pointer))

    @property
    def nbytes(self) -> int:
        """Memory size of the weights in bytes."""
        return self._kernels.call("weights_bytes", self._pointer)

    @property
    def num_entries(self) -> int:
        """Number of pairs of a pixel and a Gaussian with a weight."""
        return self._kernels.call("weights_count", self._pointer)

    @property
    def num_visits(self) -> int:
        """Number of vectors of sixteen pixels that the entries fill, partly or fully."""
        return self._kernels.call("weights_visits", self._pointer)

    def composite(self, features: Tensor) -> Tensor:
        """Computes W @ features, the rendered features without a background; differentiable in the features.

        Takes float32 (num_gaussians, channels) on the CPU, and returns float32 (height, width, channels).

        Raises:
            GenLangSplatError: The shape, type or device is wrong.
        """
        image: Tensor = _Product.apply(check_tensor("features", features, (self.num_gaussians, None)), self)
        return image

    @torch.no_grad()
    def backproject(self, targets: Tensor) -> Tensor:
        """Computes W^T @ targets: for every Gaussian the sum over pixels of weight times target.

        Takes float32 (height, width, channels) on the CPU, and returns float32 (num_gaussians, channels).

        Raises:
            GenLangSplatError: The shape, type or device is wrong.
        """
        targets = check_tensor("targets", targets, (self.height, self.width, None))
        sums = empty(self.num_gaussians, targets.shape[2])
        self._kernels.run("weights_backproject", self._pointer, *_matrix(targets, targets.shape[2], sums))
        return sums


class _Product(torch.autograd.Function):
    """W @ features, whose derivative is W^T."""

    @staticmethod
    def forward(context: Any, features: Tensor, weights: CompositingWeights) -> Tensor:
        context.weights = weights
        image = empty(weights.height, weights.width, features.shape[1])
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
    gaussians: Gaussians,
    view: View,
    *,
    rasterize_mode: str = "classic",
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    half_precision: bool = False,
) -> CompositingWeights:
    """Extracts the weights with which `rasterization` blends the Gaussians into one view. CPU tensors only.

    With `half_precision` the weights are stored as fp16: half the memory, with relative errors up to 2^-11.

    Raises:
        GenLangSplatError: An input is invalid, or the kernels are not built.
    """
    check_choice("rasterize_mode", rasterize_mode, RASTERIZE_MODES)
    if gaussians.means.is_cuda:
        raise GenLangSplatError(
            "compositing_weights got CUDA tensors; it supports only CPU tensors. Use RenderedWeights, which works on "
            "both, or move the Gaussians with .to('cpu')."
        )
    gaussians, view = check_scene(*gaussians.tensors(), view.viewmat, view.K, view.width, view.height)
    antialiased = rasterize_mode == "antialiased"
    means2d, conics, depths, shown, _, radii = project(
        gaussians, view, near_plane=near_plane, far_plane=far_plane, eps2d=eps2d, antialiased=antialiased
    )
    inputs = splat_inputs(means2d, conics, shown, depths, radii, None, view.width, view.height)
    return CompositingWeights(library.load_kernels(), inputs, half_precision)


class RenderedWeights:
    """The interface of `CompositingWeights` by rendering: products with W are renders, those with W^T gradients."""

    def __init__(self, gaussians: Gaussians, view: View, *, rasterize_mode: str = "classic") -> None:
        self.width, self.height, self.num_gaussians = view.width, view.height, len(gaussians)
        self._gaussians, self._view, self._rasterize_mode = gaussians.detach(), view.detach(), rasterize_mode

    @torch.no_grad()
    def composite(self, features: Float[Tensor, "num_gaussians channels"]) -> Float[Tensor, "height width channels"]:
        """Computes W @ features, without a gradient."""
        return torch.cat(
            [self._render(chunk.contiguous())[0] for chunk in features.split(CHANNEL_CHUNK, dim=1)], dim=-1
        )

    def backproject(self, targets: Float[Tensor, "height width channels"]) -> Float[Tensor, "num_gaussians channels"]:
        """Computes W^T @ targets, without a gradient: the gradient of sum(render * target) at features of zero."""
        sums = targets.new_empty(self.num_gaussians, targets.shape[2])
        for chunk, part in zip(
            targets.detach().split(CHANNEL_CHUNK, dim=2), sums.split(CHANNEL_CHUNK, dim=1), strict=True
        ):
            with torch.enable_grad():
                features = torch.zeros_like(part, requires_grad=True)
                (gradient,) = torch.autograd.grad(self._render(features), features, chunk[None])
            part.copy_(gradient)
        return sums

    def _render(self, features: Tensor) -> Tensor:
        return render(self._gaussians, self._view, features, rasterize_mode=self._rasterize_mode)[0]


class WeightCache:
    """Keeps the weights of the first views that fit into `budget` bytes; those of others are extracted at every use.

    Views are used in rounds, where the least recently used view is the one that is needed next, so none is evicted.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._kept: dict[Hashable, CompositingWeights] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, view: Hashable, extract: Callable[[], CompositingWeights]) -> CompositingWeights:
        """Returns the weights of a view, from the cache or from `extract`."""
        if view in self._kept:
            return self._kept[view]
        weights = extract()
        if self.nbytes + weights.nbytes <= self.budget:
            self._kept[view] = weights
            self.nbytes += weights.nbytes
        return weights
