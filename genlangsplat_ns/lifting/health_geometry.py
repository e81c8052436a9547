"""Where language and geometry disagree: at steps of the depth, far from the training cameras, in front of surfaces.

These measures are details of the health of a field; they are reported and not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.lifting.health_measures import RenderedRegions
from genlangsplat_ns.lifting.regions import ViewOperator, paint

DEPTH_STEP = 0.05
"""Relative change of the depth within two pixels that is a step."""

IN_FRONT = 0.1
"""A Gaussian floats in a view if it is nearer than what the view shows there by more than this share of the depth."""


def _cosines(view: RenderedRegions) -> tuple[Float[Tensor, "height width levels"], Bool[Tensor, "height width levels"]]:
    """The cosine of rendered latents and those of the regions, and where both exist."""
    cosines = (view.directions * paint(view.rows, view.latents)).sum(dim=-1)
    return cosines, (view.rows < len(view.latents)) & view.directions.any(dim=-1)


def agreement(view: RenderedRegions) -> float | None:
    """The mean cosine of rendered latents and those of the regions; None where no region has a rendered latent."""
    cosines, valid = _cosines(view)
    return float(cosines[valid].mean()) if bool(valid.any()) else None


def agreement_at_depth_edges(
    view: RenderedRegions, depth: Float[Tensor, "height width"], threshold: float = DEPTH_STEP
) -> tuple[float, float] | None:
    """The mean cosine of rendered latents and those of the regions, near steps of the depth and elsewhere.

    None if one of the two sets of pixels is empty.
    """
    maps = depth[None, None]
    spread = torch.nn.functional.max_pool2d(maps, 5, 1, 2) + torch.nn.functional.max_pool2d(-maps, 5, 1, 2)
    steps = (spread > threshold * depth.clamp_min(1e-6))[0, 0]
    cosines, valid = _cosines(view)
    at_edges, elsewhere = (cosines[valid & chosen[..., None]] for chosen in (steps, ~steps))
    if len(at_edges) == 0 or len(elsewhere) == 0:
        return None
    return float(at_edges.mean()), float(elsewhere.mean())


@dataclass(frozen=True)
class AgreementByDistance:
    """The agreement of views near the training cameras, and of those far from them."""

    near: float
    """Mean agreement of the nearer half of the views."""
    far: float
    """Mean agreement of the farther half."""
    near_distance: float
    """Mean distance of the nearer half from the nearest training camera, in mean spacings of the training cameras."""
    far_distance: float
    """The same of the farther half."""


def agreement_by_distance(
    agreements: Float[Tensor, " num_views"],
    positions: Float[Tensor, "num_views 3"],
    training: Float[Tensor, "num_training_views 3"],
) -> AgreementByDistance | None:
    """Compares views near and far from the training cameras, in two halves; a view in the middle is in both.

    Args:
        agreements: The agreement of each view.
        positions: Their cameras.
        training: The cameras of the training views. Their spacing is the mean distance of each to its nearest other.

    Returns:
        None for fewer than two views, or if all training cameras are in one place.
    """
    if len(agreements) < 2 or len(training) < 2:
        return None
    spacing = torch.cdist(training, training).fill_diagonal_(torch.inf).amin(dim=1).mean()
    distances, order = torch.cdist(positions, training).amin(dim=1).sort()
    half = -(-len(order) // 2)
    if float(spacing) <= 0:
        return None
    values = agreements[order]
    halves = values[:half], values[-half:], distances[:half] / spacing, distances[-half:] / spacing
    return AgreementByDistance(*(float(part.mean()) for part in halves))


def unseen_share(
    opacities: Float[Tensor, " num_gaussians"], latents: Float[Tensor, "num_gaussians levels latent_dim"]
) -> float:
    """The share of opaque Gaussians on which no region of any view was seen; 0 without opaque Gaussians."""
    opaque = opacities > 0.5
    seen: Bool[Tensor, " num_gaussians"] = latents.any(dim=-1).any(dim=-1)
    return float((opaque & ~seen).sum() / opaque.sum().clamp_min(1))


@torch.no_grad()
def weights_in_view(
    operator: ViewOperator, depths: Float[Tensor, " num_gaussians"], shown: Float[Tensor, "height width"]
) -> Float[Tensor, "num_gaussians 2"]:
    """The compositing weight of each Gaussian in a view, and the same if it floats there, otherwise 0.

    A Gaussian floats if it is nearer than the mean depth of the pixels it contributes to, by more than `IN_FRONT`.

    Args:
        operator: The compositing of the view.
        depths: Depths of the centers of the Gaussians.
        shown: Rendered depth.
    """
    targets = torch.stack([torch.ones_like(shown), shown.clamp_min(1e-6).log()], dim=-1)
    weight, logarithms = operator.backproject(targets).unbind(dim=-1)
    surface = (logarithms / weight.clamp_min(1e-12)).exp()
    return torch.stack([weight, weight * (depths < (1 - IN_FRONT) * surface)], dim=-1)


def floating_share(
    weights: Float[Tensor, "num_gaussians 2"], latents: Float[Tensor, "num_gaussians levels latent_dim"]
) -> float:
    """The share of floating language: of the compositing weight of all Gaussians with a latent, the part of floaters.

    A floater floats with most of its weight. `weights` are the sums of `weights_in_view` over views.
    """
    weight, floating = (weights * latents.any(dim=-1).any(dim=-1, keepdim=True)).unbind(dim=-1)
    floaters = floating > 0.5 * weight
    return float((weight * floaters).sum() / weight.sum().clamp_min(1e-12))
