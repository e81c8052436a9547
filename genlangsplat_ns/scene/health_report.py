"""The health of a scene, as the entry `health` of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from genlangsplat_ns.lifting.health import MISALIGNMENT, CodeSample, HealthLine, judge
from genlangsplat_ns.lifting.health_geometry import (
    agreement,
    agreement_at_depth_edges,
    agreement_by_distance,
    floating_share,
    unseen_share,
    weights_in_view,
)
from genlangsplat_ns.lifting.health_measures import RenderedRegions, groups_of_regions
from genlangsplat_ns.rasterization import RenderedWeights
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.measured_views import MeasuredView


@torch.no_grad()
def scene_health(scene: LanguageScene, views: Sequence[MeasuredView]) -> list[HealthLine]:
    """Judges a scene by views, best held-out ones; see `judge`."""
    model, device = scene.model, scene.model.device
    autoencoder = model.field_head.autoencoder
    regions = [RenderedRegions(view.features.regions.to(device), view.region_latents, view.latents) for view in views]
    width = autoencoder.identity.embedding_dim
    embeddings = [view.features.embeddings for view in views] or [torch.zeros(0, width)]
    code = CodeSample(
        embeddings=torch.cat(embeddings).to(device),
        latents=torch.cat([view.region_latents for view in views]) if views else model.latents.new_zeros(0, 16),
        groups=groups_of_regions(regions).to(device),
        decode=scene.decode,
        autoencoder=autoencoder.decode if scene.field.decoder == "memory" else None,
    )
    lines = judge(regions, model.latents.detach(), code, optimized=model.config.language_solver == "adam")
    details = _on_geometry(scene, views, regions)
    return [replace(line, details=line.details | details) if line.name == MISALIGNMENT else line for line in lines]


def _on_geometry(
    scene: LanguageScene, views: Sequence[MeasuredView], regions: Sequence[RenderedRegions]
) -> dict[str, float]:
    """Measures where language and geometry disagree; what could not be measured is absent."""
    model = scene.model
    latents = model.latents.detach()
    details = {"opaque_gaussians_without_latent": unseen_share(torch.sigmoid(model.opacities).squeeze(-1), latents)}
    at_edges = [
        found
        for view, seen in zip(views, regions, strict=True)
        if (found := agreement_at_depth_edges(seen, view.depth)) is not None
    ]
    if at_edges:
        near, elsewhere = torch.tensor(at_edges).mean(dim=0).tolist()
        details |= {"agreement_at_depth_edges": near, "agreement_elsewhere": elsewhere}
    details |= _by_distance(scene, views, regions)
    if views:
        details["language_on_floaters"] = floating_share(_weights(scene, views), latents)
    return details


def _by_distance(
    scene: LanguageScene, views: Sequence[MeasuredView], regions: Sequence[RenderedRegions]
) -> dict[str, float]:
    """Compares the agreement of held-out views near the training cameras and far from them."""
    found = {
        view.view: value
        for view, seen in zip(views, regions, strict=True)
        if view.view.split == "eval" and (value := agreement(seen)) is not None
    }
    if not found:
        return {}
    positions = torch.cat([scene.camera(view).camera_to_worlds[:, :3, 3] for view in found])
    training = scene.datamanager.train_dataset.cameras.camera_to_worlds[:, :3, 3].to(positions)
    halves = agreement_by_distance(torch.tensor(list(found.values())).to(positions), positions, training)
    if halves is None:
        return {}
    return {
        "agreement_near_training_cameras": halves.near,
        "agreement_far_from_training_cameras": halves.far,
        "distance_near_training_cameras": halves.near_distance,
        "distance_far_from_training_cameras": halves.far_distance,
    }


def _weights(scene: LanguageScene, views: Sequence[MeasuredView]) -> torch.Tensor:
    """Sums `weights_in_view` over views."""
    model = scene.model
    gaussians, mode = model.geometry(), model.config.rasterize_mode
    sums = model.latents.new_zeros(len(gaussians), 2)
    for measured in views:
        view = model.view(scene.camera(measured.view))
        depths = gaussians.means @ view.viewmat[2, :3] + view.viewmat[2, 3]
        sums += weights_in_view(RenderedWeights(gaussians, view, rasterize_mode=mode), depths, measured.depth)
    return sums
