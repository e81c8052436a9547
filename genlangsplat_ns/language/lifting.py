"""Lifting: from the latents of many views to one latent per Gaussian and level, with the geometry frozen.

Rendering is linear in what the Gaussians carry, so with weights `w` (pixel p, Gaussian i) the aggregate
`sum_p w_pi * target_p / sum_p w_pi` needs one pass over the views and no optimiser (Occam's LGS and its kin).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True)
class LiftedLatents:
    """What the views say about each Gaussian."""

    latents: Float[Tensor, "num_gaussians levels latent_dim"]
    """Unit latents; zero where no region was ever seen."""
    mass: Float[Tensor, "num_gaussians levels"]
    """Sum of the compositing weights over all labelled pixels of all views."""


def region_targets(
    regions: Int32[Tensor, "levels height width"], latents: Float[Tensor, "num_regions latent_dim"]
) -> tuple[Float[Tensor, "height width levels latent_dim"], Bool[Tensor, "height width levels"]]:
    """Paints the latent of each region over its pixels.

    Args:
        regions: Row of `latents` for each pixel and level; -1 where no region is.
        latents: One latent per region of the view.

    Returns:
        The target latents (zero where there is no region) and whether a pixel has one.

    Raises:
        GenLangSplatError: A region has no latent.
    """
    rows = regions.permute(1, 2, 0).long()
    if int(rows.max()) >= latents.shape[0]:
        raise GenLangSplatError(
            f"A region map names region {int(rows.max())}, but the view has only {latents.shape[0]} latents. The "
            "feature store is inconsistent; delete its folder under language_features/ and extract again."
        )
    padded = torch.cat([latents, latents.new_zeros(1, latents.shape[1])])
    # Index -1 reaches the row of zeros at the end.
    return padded[rows], rows >= 0


class LatentLift:
    """Accumulates `sum w * latent` and `sum w` over views; its memory does not grow with their number."""

    def __init__(self, num_gaussians: int, levels: int, latent_dim: int, device: torch.device | str = "cpu") -> None:
        self.weighted_latents = torch.zeros(num_gaussians, levels, latent_dim, device=device)
        self.mass = torch.zeros(num_gaussians, levels, device=device)

    def add(
        self,
        backproject: Callable[[Tensor], Tensor],
        targets: Float[Tensor, "height width levels latent_dim"],
        valid: Bool[Tensor, "height width levels"],
    ) -> None:
        """Adds one view.

        Args:
            backproject: Maps pixel values `(height, width, channels)` to `(num_gaussians, channels)`, the sum over
                pixels of compositing weight times value.
            targets: The view's latents, zero where not valid.
            valid: Where the view has a region.
        """
        levels, latent_dim = targets.shape[-2:]
        values = torch.cat([targets.flatten(-2), valid.to(targets.dtype)], dim=-1)
        sums = backproject(values)
        self.weighted_latents += sums[:, : levels * latent_dim].unflatten(-1, (levels, latent_dim))
        self.mass += sums[:, levels * latent_dim :]

    def solve(self) -> LiftedLatents:
        """Returns the unit aggregate of all views added so far."""
        lengths = self.weighted_latents.norm(dim=-1, keepdim=True)
        seen = (self.mass > 0).unsqueeze(-1) & (lengths > 1e-8)
        latents = torch.where(seen, self.weighted_latents / lengths.clamp_min(1e-8), 0.0)
        return LiftedLatents(latents, self.mass)
