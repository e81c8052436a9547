"""Structural similarity of two images: the values of pytorch_msssim, from a fused kernel on the CPU."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from pytorch_msssim import ssim
from torch import Tensor

from genlangsplat_ns.rasterization.library import address, load_kernels

WINDOW = 11
"""Side of the window; smaller images are passed to pytorch_msssim, which shrinks it."""


class _FusedSimilarity(torch.autograd.Function):
    """The mean similarity, and its gradient with respect to the first picture, computed in the same call."""

    @staticmethod
    def forward(context: Any, moving: Tensor, fixed: Tensor) -> Tensor:
        gradient = torch.empty_like(moving) if context.needs_input_grad[0] else None
        mean = ctypes.c_double()
        sizes = [ctypes.c_int64(size) for size in moving.shape]
        pointers = [ctypes.c_void_p(address(tensor)) for tensor in (moving, fixed, gradient)]
        load_kernels().run("ssim", *sizes, *pointers, ctypes.byref(mean))
        context.save_for_backward(*([] if gradient is None else [gradient]))
        return moving.new_tensor(mean.value)

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, None]:
        (gradient,) = context.saved_tensors
        return slope * gradient, None


def structural_similarity(
    moving: Float[Tensor, "1 channels height width"], fixed: Float[Tensor, "1 channels height width"]
) -> Float[Tensor, ""]:
    """Mean structural similarity (Wang et al. 2004; 11-pixel Gaussian window, sigma 1.5, no padding) of values 0..1."""
    fused = (
        moving.device.type == "cpu"
        and moving.dtype == fixed.dtype == torch.float32
        and min(moving.shape[-2:]) >= WINDOW
        and not fixed.requires_grad
    )
    if not fused:
        return ssim(moving, fixed, data_range=1.0)
    pictures = [picture[0].permute(1, 2, 0).contiguous() for picture in (moving, fixed)]
    return _FusedSimilarity.apply(*pictures)
