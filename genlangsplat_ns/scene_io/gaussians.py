"""The parameters of Gaussians as stored in checkpoints and files."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from jaxtyping import Float32
from torch import Tensor


@dataclass(frozen=True)
class GaussianParameters:
    """The parameters of a scene before activation, named and shaped as in splatfacto's `gauss_params`."""

    means: Float32[Tensor, "num_gaussians 3"]
    scales: Float32[Tensor, "num_gaussians 3"]
    """Logarithms of the standard deviations along the axes."""
    quats: Float32[Tensor, "num_gaussians 4"]
    """Rotations as w, x, y, z, of any length but zero."""
    features_dc: Float32[Tensor, "num_gaussians 3"]
    """The constant harmonic; the logit of the color if splatfacto was trained with degree 0."""
    features_rest: Float32[Tensor, "num_gaussians bases 3"]
    """The other harmonics: 0, 3, 8 or 15 of them for degrees 0 to 3."""
    opacities: Float32[Tensor, "num_gaussians 1"]
    """Logits."""

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        """The degree of the harmonics."""
        return math.isqrt(self.features_rest.shape[1] + 1) - 1

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
