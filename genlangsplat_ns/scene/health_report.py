"""The health of a scene, as the entry `health` of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from genlangsplat_ns.language.projection import is_projection
from genlangsplat_ns.lifting.health import CodeSample, HealthLine, judge
from genlangsplat_ns.lifting.health_measures import RenderedRegions, agreement_at_depth_edges, unseen_share
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
        decode=autoencoder.decode,
        is_projection=is_projection(autoencoder.identity),
        with_memory=scene.field.decoder == "memory",
        run_decode=scene.decode,
    )
    latents = model.latents.detach()
    lines = judge(regions, latents, code, optimized=model.config.language_solver == "adam")
    opacities = torch.sigmoid(model.opacities.detach()).squeeze(-1)
    details = {"opaque_gaussians_without_latent": unseen_share(opacities, latents)}
    at_edges = [
        found
        for view, seen in zip(views, regions, strict=True)
        if (found := agreement_at_depth_edges(seen, view.depth)) is not None
    ]
    if at_edges:
        near, elsewhere = torch.tensor(at_edges).mean(dim=0).tolist()
        details |= {"agreement_at_depth_edges": near, "agreement_elsewhere": elsewhere}
    return [
        replace(line, details=line.details | details) if line.name == "geometry-semantic misalignment" else line
        for line in lines
    ]
