"""Averages of the latents of many views: one latent per Gaussian and level, with the geometry frozen.

Rendering is linear in the values of the Gaussians. With weights `w` (pixel p, Gaussian i) the average
`sum_p w_pi * target_p / sum_p w_pi` needs one pass over the views and no optimizer, as in Occam's LGS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.lifting.regions import RegionConsensus, RegionView, RegionWeights
from genlangsplat_ns.utils.vectors import unit_or_zero

MIN_MASS_SHARE = 1e-6
"""A Gaussian with less than this share of the mean positive mass counts as unseen.

Such a trace may belong to the rim of another object: in composed scenes up to a quarter of the latents below a tenth of
this share had a wrong direction. Removing all latents below it changed no score; a hundred times as much left holes in
held-out views.
"""


@dataclass(frozen=True)
class LiftedLatents:
    """The result of lifting."""

    latents: Float[Tensor, "num_gaussians levels latent_dim"]
    """Unit latents; zero for Gaussians on which no view shows a region (up to traces)."""
    mass: Float[Tensor, "num_gaussians levels"]
    """Sum over all labeled pixels of all views of compositing weight times region weight."""
    region_weights: RegionWeights | None = None
    """The weights of the regions of every view; None after a plain average."""
    region_consensus: list[RegionConsensus] | None = None
    """For every view the consensus of all views on its regions; None where it was not requested."""

    @property
    def seen(self) -> Bool[Tensor, "num_gaussians levels"]:
        """Which Gaussians have a latent; the others have zeros, which score 0 in every query."""
        return self.latents.any(dim=-1)


class LatentMean:
    """Accumulates `sum w * latent` and `sum w` over views, in memory that does not grow with their number.

    Raises:
        GenLangSplatError: There is no Gaussian.
    """

    def __init__(self, num_gaussians: int, levels: int, latent_dim: int, device: torch.device | str = "cpu") -> None:
        if num_gaussians == 0:
            raise GenLangSplatError(
                "Found no Gaussian to lift latents onto, expected at least one. Train the RGB phase longer, or start "
                "from a scene that has some."
            )
        self.num_views = 0
        # The last channel is the mass, so that one backprojection gives both sums.
        self.sums = torch.zeros(num_gaussians, levels, latent_dim + 1, device=device)

    def add(self, view: RegionView, weights: Float[Tensor, " num_regions"]) -> None:
        """Adds one view with the weights of its regions."""
        values = view.paint(torch.cat([view.latents * weights[:, None], weights[:, None]], dim=1)).flatten(-2)
        self.sums += view.operator.backproject(values).unflatten(-1, self.sums.shape[1:])
        self.num_views += 1

    def solve(self) -> LiftedLatents:
        """Returns the unit latents of all added views.

        Raises:
            GenLangSplatError: No region of these views falls on a Gaussian.
        """
        mass = self.sums[..., -1].clone()
        if not bool(mass.any()):
            raise GenLangSplatError(
                f"Found no region on any Gaussian in {self.num_views} views, expected some in most. Look at the masks "
                "with gen-langsplat extract, or extract the features again with another mask generator."
            )
        floor = MIN_MASS_SHARE * mass.sum(dim=0) / (mass > 0).sum(dim=0).clamp_min(1)
        return LiftedLatents(unit_or_zero(self.sums[..., :-1]) * (mass >= floor)[..., None], mass)


def average_views(
    views: Iterable[RegionView],
    region_weights: RegionWeights | None,
    num_gaussians: int,
    levels: int,
    latent_dim: int,
    device: torch.device | str = "cpu",
) -> LatentMean:
    """Accumulates labeled views in one pass; without `region_weights`, all regions have weight 1."""
    accumulator = LatentMean(num_gaussians, levels, latent_dim, device)
    for number, view in enumerate(views):
        accumulator.add(view, weights_of_view(view, number, region_weights))
    return accumulator


def weights_of_view(
    view: RegionView, number: int, region_weights: RegionWeights | None
) -> Float[Tensor, " num_regions"]:
    """The weights of the regions of one view; ones without `region_weights`."""
    return view.latents.new_ones(len(view.latents)) if region_weights is None else region_weights[number]
