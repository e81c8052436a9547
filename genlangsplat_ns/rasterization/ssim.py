"""Structural similarity of two images: the values of pytorch_msssim, from a fused kernel on the CPU."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Bool, Float
from pytorch_msssim import ssim
from torch import Tensor
from torch.nn import functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization.library import address, load_kernels

WINDOW = 11
"""Side of the window; smaller images are passed to pytorch_msssim, which shrinks it."""

SIGMA = 1.5
"""Standard deviation of the window in pixels."""

STABILIZERS = (0.01**2, 0.03**2)
"""Constants that keep the quotients of means and of variances finite."""


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


# Plain Tensor annotations: the kernel relies on equal shapes, so they are checked by hand.
def structural_similarity(moving: Tensor, fixed: Tensor) -> Float[Tensor, ""]:
    """Mean structural similarity (Wang et al. 2004; 11-pixel Gaussian window, sigma 1.5, no padding) of values 0..1.

    Takes two images (1, channels, height, width).

    Raises:
        GenLangSplatError: The images differ in shape or device, or are not one image each.
    """
    same = moving.shape == fixed.shape and moving.device == fixed.device
    if not same or moving.dim() != 4 or len(moving) != 1:
        raise GenLangSplatError(
            f"The images have the shapes {tuple(moving.shape)} on {moving.device} and {tuple(fixed.shape)} on "
            f"{fixed.device}; expected twice the same (1, channels, height, width). Correct them."
        )
    is_fused = (
        moving.device.type == "cpu"
        and moving.dtype == fixed.dtype == torch.float32
        and min(moving.shape[-2:]) >= WINDOW
        and not fixed.requires_grad
    )
    if not is_fused:
        stock: Tensor = ssim(moving, fixed, data_range=1.0)
        return stock
    pictures = [picture[0].permute(1, 2, 0).contiguous() for picture in (moving, fixed)]
    fused: Tensor = _FusedSimilarity.apply(*pictures)
    return fused


@torch.no_grad()
def kept_similarity(
    moving: Float[Tensor, "1 channels height width"],
    fixed: Float[Tensor, "1 channels height width"],
    kept: Bool[Tensor, "height width"],
) -> Float[Tensor, ""]:
    """Structural similarity over the kept pixels; the values of the others do not matter.

    It is the mean over the windows with a kept center, in which both images are black where pixels are not kept. If
    there is no such window, because the kept pixels are at the border or the images are smaller than the window, it is
    the mean over all windows.
    """
    moving, fixed = moving * kept, fixed * kept
    margin = WINDOW // 2
    centers = kept[margin:-margin, margin:-margin]
    if min(moving.shape[-2:]) < WINDOW or not bool(centers.any()):
        return structural_similarity(moving, fixed)
    return _similarity_map(moving, fixed)[0][:, centers].mean()


def _similarity_map(moving: Tensor, fixed: Tensor) -> Float[Tensor, "1 channels rows columns"]:
    """Returns the similarity of each window."""
    offsets = torch.arange(WINDOW, device=moving.device, dtype=moving.dtype) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).expand(moving.shape[1], 1, 1, WINDOW)

    def blur(values: Tensor) -> Tensor:
        rows = F.conv2d(values, weights, groups=len(weights))
        return F.conv2d(rows, weights.transpose(2, 3), groups=len(weights))

    mean_moving, mean_fixed = blur(moving), blur(fixed)
    variances = blur(moving**2) - mean_moving**2 + blur(fixed**2) - mean_fixed**2
    covariance = blur(moving * fixed) - mean_moving * mean_fixed
    for_means, for_variances = STABILIZERS
    contrast = (2 * covariance + for_variances) / (variances + for_variances)
    return contrast * (2 * mean_moving * mean_fixed + for_means) / (mean_moving**2 + mean_fixed**2 + for_means)
