"""Lifting in this process: from the latents of many views to one latent per Gaussian and level."""

from __future__ import annotations

import torch

from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.lifting.robust import RobustLift, max_view_visits
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.lifting.view_jobs import LocalRunner, ViewSequence
from genlangsplat_ns.utils.progress import progress_bar


@torch.no_grad()
def lift_latents(
    views: ViewSequence,
    num_gaussians: int,
    levels: int,
    latent_dim: int,
    settings: LiftSettings,
    device: torch.device | str = "cpu",
    small_views: ViewSequence | None = None,
    with_consensus: bool = False,
) -> LiftedLatents:
    """Lifts the latents of all views onto the Gaussians.

    Args:
        views: The labeled views; they must be the same whenever they are loaded.
        num_gaussians: Number of Gaussians.
        levels: Number of levels.
        latent_dim: Width of a latent.
        settings: The settings.
        device: Device of the latents.
        small_views: The same views downscaled, for the region weights; None uses the views themselves.
        with_consensus: Whether the result holds the consensus on each region, from which a memory is fitted.

    Raises:
        GenLangSplatError: There is no Gaussian, or no region falls on one.
    """
    total = max_view_visits(len(views), settings.robust_rounds)
    with progress_bar("Lifting latents", total) as bar:
        runner = LocalRunner(views, views if small_views is None else small_views, device, bar)
        lifted = RobustLift(runner, (num_gaussians, levels, latent_dim), settings, with_consensus).lift()
        bar.move_to(total)
    return lifted
