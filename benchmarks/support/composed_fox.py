"""The fox scene with latents of several widths: a trained run, lifted again in memory, with both decoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.evaluation.evaluate import evaluate_views
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF, THRESHOLD
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.language.memory import MemoryDecoder
from genlangsplat_ns.language.projection import projection_autoencoder
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions
from genlangsplat_ns.lifting.region_views import PosedView, RegionViews
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.rasterization import CompositingWeights, View, compositing_weights
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.labels import warp_labels
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView
from genlangsplat_ns.scene.lifting import training_views
from support.benchmark import Row
from support.composed_fidelity import shown_in
from support.timing import Stopwatch

LABELS = Path(__file__).parents[1] / "fox_labels"
PROTOCOLS = (LANGSPLAT_LERF, THRESHOLD)


@dataclass(frozen=True)
class RelatedRun:
    """A trained run with replaced latents.

    Attributes:
        scene: The run.
        latents: The latents of its Gaussians.
        decode: Turns latents into embeddings.
        autoencoder_identity: The autoencoder of the latents.
        weights: The compositing weights of a view.
    """

    scene: LanguageScene
    latents: Tensor
    decode: Callable[[Tensor], Tensor]
    autoencoder_identity: AutoencoderIdentity
    weights: Callable[[SceneView], CompositingWeights]

    @property
    def encoder(self) -> Any:
        """The encoder of the run."""
        return self.scene.encoder

    def views(self, split: Any) -> list[SceneView]:
        """The views of the run."""
        return self.scene.views(split)

    def image(self, view: SceneView) -> Tensor:
        """The photograph of a view."""
        return self.scene.image(view)

    def mask(self, view: SceneView) -> Tensor | None:
        """The pixels of the photograph that count."""
        return self.scene.mask(view)

    def render(self, view: SceneView) -> Any:
        """The photograph, as unused colors, and the rendered latents."""
        latents = self.weights(view).composite(self.latents.flatten(1)).unflatten(-1, self.latents.shape[1:])
        return SimpleNamespace(rgb=self.image(view).float() / 255, latents=latents)


def measure_fox(config: Path, dimensions: tuple[int, ...]) -> list[Row]:
    """Scores the six texts of the fox scene with both decoders and latents of several widths.

    Args:
        config: `config.yml` of a finished run with the embedded encoder.
        dimensions: Widths of the projections. The run's own autoencoder comes first.
    """
    scene = open_run(config)
    own = scene.model.field_head.autoencoder
    identity = own.identity
    codes = [own] + [projection_autoencoder(identity.encoder, identity.embedding_dim, width) for width in dimensions]
    training = training_views(scene.model, scene.datamanager)
    asked = _AskedViews(scene, training)
    return [row for code in codes for row in asked.measure(replace(training, autoencoder=code), code)]


class _AskedViews:
    """The labeled and the held-out views of a run."""

    def __init__(self, scene: LanguageScene, training: RegionViews) -> None:
        self.scene = scene
        self.labeled = warp_labels(read_label_set(LABELS), scene, scene.views("all"))
        self.gaussians, self.mode = training.gaussians, training.rasterize_mode
        self._weights: dict[str, CompositingWeights] = {}
        self.held_out = [
            PosedView(view.name, scene.datamanager.language_key("eval", view.index), self._geometry(view))
            for view in scene.views("eval")
        ]

    @torch.no_grad()
    def measure(self, views: RegionViews, code: Autoencoder) -> list[Row]:
        """Lifts with a code, and scores both decoders."""
        shape = len(self.gaussians), len(LEVELS), code.identity.latent_dim
        lifting, remembering = Stopwatch(), Stopwatch()
        with lifting:
            settings = self.scene.model.config.lifting
            lifted = lift_latents(views, *shape, settings, "cpu", views.small(), with_consensus=True)
        assert lifted.region_consensus is not None, "lifting was asked for the consensus"
        with remembering:
            regions = MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights)
            memory = fit_memory(regions, code.identity.encoder)
        decoders = {"autoencoder": code.decode, "memory": MemoryDecoder(memory, code.decode)}
        held_out = list(replace(views, views=self.held_out))
        rows = []
        for name, decode in decoders.items():
            run = RelatedRun(self.scene, lifted.latents, decode, code.identity, self._weights_of)
            evaluation = evaluate_views(run, self.scene.views("all"), self.labeled, protocols=PROTOCOLS)
            row = {"part": "fox", "code": code.identity.name, "latent_dim": code.identity.latent_dim, "decoder": name}
            row |= {"cosine": self._fidelity(held_out, lifted.latents, decode), "keys": len(memory)}
            row |= {"regions": len(regions), "lift_seconds": lifting.wall / 1e3}
            row |= {"lift_processor_seconds": lifting.processor / 1e3, "memory_seconds": remembering.wall / 1e3}
            row |= {"memory_processor_seconds": remembering.processor / 1e3}
            for protocol in PROTOCOLS:
                micro = evaluation.summary(protocol.name, "all")["micro"]
                rows.append({**row, "protocol": protocol.name, **micro})
        return rows

    def _fidelity(self, views: list[Any], latents: Tensor, decode: Callable[[Tensor], Tensor]) -> float:
        """Mean cosine of the embeddings of held-out regions with the decoded embeddings of their pixels."""
        decoded = torch.cat([decode(shown_in(view, latents)) for view in views])
        embeddings = torch.cat([view.embeddings for view in views])
        return float(F.cosine_similarity(decoded, embeddings.float(), dim=-1).mean())

    def _geometry(self, view: SceneView) -> View:
        return self.scene.model.view(self.scene.camera(view))

    def _weights_of(self, view: SceneView) -> CompositingWeights:
        if view.name not in self._weights:
            self._weights[view.name] = compositing_weights(
                self.gaussians, self._geometry(view), rasterize_mode=self.mode, half_precision=True
            )
        return self._weights[view.name]
