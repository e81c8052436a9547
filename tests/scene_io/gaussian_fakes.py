"""Random Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genlangsplat_ns.rasterization import Gaussians, View, render
from genlangsplat_ns.scene_io.gaussians import GaussianParameters


def make_gaussians(count: int, degree: int, seed: int = 0) -> GaussianParameters:
    """Gaussians with random sizes and orientations, and quaternions of random length."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=generator)

    return GaussianParameters(normal(3), normal(3), normal(4), normal(3), normal((degree + 1) ** 2 - 1, 3), normal(1))


def same_bits(first: GaussianParameters, second: GaussianParameters) -> bool:
    """Whether all parameters are bit-identical."""
    return all(torch.equal(value, second.tensors()[name]) for name, value in first.tensors().items())


def trained_like(count: int, degree: int, seed: int = 0) -> GaussianParameters:
    """Gaussians with the statistics of a trained scene: flat ones on a colored ball, most of them opaque or nearly
    transparent, harmonics that fall with their degree, and every fiftieth large and far in the background.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    directions = torch.nn.functional.normalize(normal(3), dim=1)
    far = torch.arange(count) % 50 == 49
    means = directions * (1 + 0.02 * normal(1)) * torch.where(far, 30.0, 1.0)[:, None]
    spacing = math.log(2 / math.sqrt(count))
    scales = spacing + 0.5 * normal(3) + far[:, None] * 3.5
    scales[:, 2] -= 2
    colors = torch.sin(2 * means + torch.tensor([0.0, 1.0, 2.0])) * 1.2 + 0.15 * normal(3)
    bases = (degree + 1) ** 2 - 1
    strengths = torch.tensor([0.12] * 3 + [0.06] * 5 + [0.04] * 7)[:bases, None]
    opacities = torch.where(torch.rand(count, 1, generator=generator) < 0.6, 4.0, -2.0) + 1.5 * normal(1)
    return GaussianParameters(means, scales, normal(4), colors, strengths * normal(bases, 3), opacities)


def picture(gaussians: GaussianParameters, side: int = 96, rasterize_mode: str = "classic") -> Tensor:
    """A picture of a scene around the origin, from a distance of three."""
    viewmat = torch.eye(4)
    viewmat[2, 3] = 3.0
    view = View(viewmat, torch.tensor([[side, 0, side / 2], [0, side, side / 2], [0, 0, 1.0]]), side, side)
    opacities = torch.sigmoid(gaussians.opacities).squeeze(-1)
    scene = Gaussians(gaussians.means, gaussians.quats, gaussians.scales.exp(), opacities)
    harmonics = torch.cat([gaussians.features_dc[:, None], gaussians.features_rest], dim=1)
    degree = gaussians.sh_degree
    return render(scene, view, harmonics, sh_degree=degree, rasterize_mode=rasterize_mode)[0][0].clamp(0, 1)


def psnr(first: Tensor, second: Tensor) -> float:
    """The peak signal-to-noise ratio of pictures with values from 0 to 1, in dB."""
    return float(-10 * torch.log10((first - second).square().mean().clamp_min(1e-12)))
