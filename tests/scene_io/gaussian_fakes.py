"""Random Gaussians."""

from __future__ import annotations

import torch

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
