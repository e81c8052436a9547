"""The views that a report measures: rendered once, for metrics, health and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.evaluation.metrics import psnr
from genlangsplat_ns.features.view_file import ViewFeatures
from genlangsplat_ns.lifting.loss import language_fidelity
from genlangsplat_ns.lifting.regions import region_targets
from genlangsplat_ns.rasterization.ssim import kept_similarity, structural_similarity
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView

MAX_VIEWS = 8
"""A report measures at most this many views, evenly spaced, so that it takes little time compared with the training."""


@dataclass(frozen=True, eq=False)
class MeasuredView:
    """A rendered view with its photograph and its own regions."""

    view: SceneView
    photograph: Float[Tensor, "height width 3"]
    """Colors from 0 to 1."""
    kept: Bool[Tensor, "height width"] | None
    """The pixels that count; None for all."""
    rgb: Float[Tensor, "height width 3"]
    """Rendered colors from 0 to 1."""
    depth: Float[Tensor, "height width"]
    """Expected depth."""
    opacity: Float[Tensor, "height width"]
    """Accumulated opacity."""
    latents: Float[Tensor, "height width levels latent_dim"]
    """Composited latents, not normalized."""
    features: ViewFeatures
    """The regions of the photograph and their embeddings."""
    region_latents: Float[Tensor, "num_regions latent_dim"]
    """The latents that the autoencoder gives to these embeddings."""

    @classmethod
    @torch.no_grad()
    def render(cls, scene: LanguageScene, view: SceneView) -> MeasuredView:
        """Renders a view of a scene and reads its features."""
        camera, device = scene.camera(view), scene.model.device
        outputs = scene.model.render_splats(camera)
        features = scene.datamanager.language_features(view.split, view.index)
        kept = scene.mask(view)
        return cls(
            view=view,
            photograph=scene.image(view).to(device) / 255,
            kept=None if kept is None else kept.to(device),
            rgb=outputs["rgb"],
            depth=outputs["depth"][..., 0],
            opacity=outputs["accumulation"][..., 0],
            latents=scene.model.render_latents(camera),
            features=features,
            region_latents=scene.model.field_head.autoencoder.encode(features.embeddings.to(device)),
        )

    @cached_property
    def metrics(self) -> dict[str, float]:
        """PSNR and SSIM against the photograph, and the fidelity of the latents where the view has regions."""
        images = [image.permute(2, 0, 1)[None] for image in (self.rgb, self.photograph)]
        kept = self.kept
        similarity = structural_similarity(*images) if kept is None else kept_similarity(images[0], images[1], kept)
        found = {"psnr": float(psnr(self.rgb, self.photograph, kept)), "ssim": float(similarity)}
        targets, valid = region_targets(self.features.regions.to(self.rgb.device), self.region_latents)
        if bool(valid.any()):
            l1, cosine = language_fidelity(self.latents, targets, valid)
            found |= {"lang_cosine": float(cosine), "lang_l1": float(l1)}
        return found


def views_to_measure(scene: LanguageScene) -> list[SceneView]:
    """Chooses held-out views, or training views if none is held out, that have a pixel that counts."""
    views = scene.views("eval") or scene.views("train")
    counting = []
    for view in views:
        kept = scene.mask(view)
        if kept is None or bool(kept.any()):
            counting.append(view)
    places = np.linspace(0, len(counting) - 1, min(MAX_VIEWS, len(counting))).round().astype(int)
    return [counting[place] for place in places]


def mean_metrics(views: Sequence[MeasuredView]) -> dict[str, Any]:
    """The means of the metrics over views, weighted equally, and which views they are from."""
    found = [view.metrics for view in views]
    names = dict.fromkeys(name for metrics in found for name in metrics)
    means = {name: float(np.mean([metrics[name] for metrics in found if name in metrics])) for name in names}
    split = views[0].view.split if views else None
    return {**means, "split": split, "views": [view.view.name for view in views]}
