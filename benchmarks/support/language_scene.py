"""Shared by the benchmarks of the language phase: a composed scene with latents, and scores of latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.autoencoder import Autoencoder
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.rasterization import CompositingWeights, compositing_weights
from support.composed_autoencoders import foreign_vectors, train_on
from support.composed_scene import ComposedScene, RegionSettings, compose, region_features, source_vectors


@dataclass(frozen=True)
class LatentScene:
    """A composed scene whose regions have latents, with a share of them mislabeled."""

    scene: ComposedScene
    autoencoder: Autoencoder
    """Trained without the scene's objects."""
    weights: tuple[CompositingWeights, ...]
    """The compositing weights of each view."""
    regions: tuple[tuple[Tensor, Tensor], ...]
    """Region map and latents of each view."""
    sources: Float[Tensor, "num_sources latent_dim"]
    """The true latent of each object, followed by those of the patches of the background."""

    @property
    def num_gaussians(self) -> int:
        """Number of Gaussians."""
        return len(self.scene.gaussians.means)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of Gaussians, levels, and latent dimensions."""
        return self.num_gaussians, len(LEVELS), self.sources.shape[1]

    def training(self, levels: slice = slice(None)) -> list[RegionView]:
        """The training views, with some of the levels."""
        return [
            RegionView(self.weights[index], self.regions[index][0][levels].contiguous(), self.regions[index][1])
            for index in self.scene.split("train")
        ]

    def with_new_weights(self) -> LatentScene:
        """The same scene with weights that are computed again, to measure the time."""
        return replace(self, weights=composite_all(self.scene))

    def mislabeled(self, share: float) -> LatentScene:
        """The same scene with a share of its regions mislabeled."""
        return replace(self, regions=encode_regions(self.scene, self.autoencoder, RegionSettings(mislabeled=share)))


def latent_scene(data: Path, seed: int, **size: int) -> LatentScene:
    """Composes a scene and encodes its regions.

    Args:
        data: The folder of all data sets.
        seed: Random seed of the scene.
        size: Other arguments of `compose`.
    """
    scene = compose(data, seed, **size)
    autoencoder = train_on(foreign_vectors(data, scene), "images", 16)
    regions = encode_regions(scene, autoencoder, RegionSettings())
    with torch.no_grad():
        sources = autoencoder.encode(source_vectors(scene, RegionSettings()))
    return LatentScene(scene, autoencoder, composite_all(scene), regions, sources)


def composite_all(scene: ComposedScene) -> tuple[CompositingWeights, ...]:
    """How each view composites the Gaussians."""
    return tuple(compositing_weights(scene.gaussians, view, half_precision=True) for view in scene.views)


@torch.no_grad()
def encode_regions(
    scene: ComposedScene, autoencoder: Autoencoder, settings: RegionSettings
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Region maps and latents of all views."""
    features = (region_features(scene, index, settings) for index in range(len(scene.views)))
    return tuple((view.regions, autoencoder.encode(view.embeddings)) for view in features)


@dataclass(frozen=True)
class Scores:
    """How well latents distinguish the objects in held-out views."""

    cosine: float
    """Mean cosine of the rendered latents with the true latents of the pixels."""
    miou: float
    """Mean over objects and levels of the IoU of the pixels whose rendered latent is nearest to that of the object."""


@torch.no_grad()
def score(scene: LatentScene, latents: Float[Tensor, "num_gaussians levels latent_dim"]) -> Scores:
    """Scores latents in the held-out views of a scene."""
    num_objects = len(scene.scene.objects)
    cosines, overlap = [], Overlap(num_objects)
    for rendered, truth in held_out_pixels(scene, latents):
        cosines.append((rendered * scene.sources[truth][:, None]).sum(dim=-1).mean())
        overlap.add((rendered @ scene.sources.T).argmax(dim=-1), truth)
    return Scores(float(torch.stack(cosines).mean()), overlap.mean())


def held_out_pixels(scene: LatentScene, latents: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Unit latents of the labeled pixels of each held-out view, and the source of each pixel."""
    for index in scene.scene.split("eval"):
        labels, patches = scene.scene.labels[index], scene.scene.patches[index]
        truth = torch.where(labels >= 0, labels, torch.where(patches >= 0, patches + len(scene.scene.objects), -1))
        rendered = scene.weights[index].composite(latents.flatten(1).contiguous()).unflatten(-1, latents.shape[1:])
        yield F.normalize(rendered[truth >= 0], dim=-1), truth[truth >= 0].long()


class Overlap:
    """Sums intersections and unions of each object and level over views."""

    def __init__(self, num_objects: int) -> None:
        self.num_objects = num_objects
        self.both: Tensor | int = 0
        self.either: Tensor | int = 0

    def add(self, found: Tensor, truth: Tensor) -> None:
        """Adds pixels, with the predicted sources at each level and the true ones."""
        names = torch.arange(self.num_objects)[:, None, None]
        is_found, is_true = found == names, (truth == names.squeeze(-1))[..., None]
        self.both = self.both + (is_found & is_true).sum(dim=1)
        self.either = self.either + (is_found | is_true).sum(dim=1)

    def mean(self) -> float:
        """Mean IoU over objects and levels."""
        return float((self.both / self.either).mean())
