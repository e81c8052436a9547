"""Spherical harmonics in the order and with the signs of 3D Gaussian splatting."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def harmonic_bases(degree: int, directions: Float[Tensor, "num 3"]) -> Float[Tensor, "num bases"]:
    """The real spherical harmonics up to `degree` <= 3 at unit directions."""
    x, y, z = directions.unbind(-1)
    bases = [torch.full_like(x, 0.5 / math.sqrt(math.pi))]
    if degree >= 1:
        factor = math.sqrt(3 / (4 * math.pi))
        bases += [-factor * y, factor * z, -factor * x]
    if degree >= 2:
        factor = 0.5 * math.sqrt(15 / math.pi)
        bases += [
            factor * x * y,
            -factor * y * z,
            0.25 * math.sqrt(5 / math.pi) * (3 * z * z - 1),
            -factor * x * z,
            0.5 * factor * (x * x - y * y),
        ]
    if degree >= 3:
        outer, inner = 0.25 * math.sqrt(35 / (2 * math.pi)), 0.25 * math.sqrt(21 / (2 * math.pi))
        middle = 0.5 * math.sqrt(105 / math.pi)
        bases += [
            -outer * y * (3 * x * x - y * y),
            middle * x * y * z,
            -inner * y * (5 * z * z - 1),
            0.25 * math.sqrt(7 / math.pi) * z * (5 * z * z - 3),
            -inner * x * (5 * z * z - 1),
            0.5 * middle * z * (x * x - y * y),
            -outer * x * (x * x - 3 * y * y),
        ]
    return torch.stack(bases, -1)
