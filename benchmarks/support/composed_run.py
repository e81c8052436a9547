"""A composed scene as a run that can be evaluated: its views, labels, words and the latents of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import LabeledMask, ViewLabels
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.gaussian_scores import SeenScores
from genlangsplat_ns.rasterization import CompositingWeights
from support.composed_scene import ComposedScene

ENCODER = "CLIP ViT-B/32"

THING = "thing"
"""The word that replaces LERF's canonical texts, whose vectors are not available: the mean of all foreign words."""


class WordTable:
    """The available text vectors of CLIP: those of the LVIS words, and of `THING`."""

    name = "openclip"
    identity = ENCODER

    def __init__(self, words: Sequence[str], vectors: Float[Tensor, "num_words dim"], foreign: Sequence[str]) -> None:
        self._rows = dict(zip(words, vectors, strict=True))
        self._rows[THING] = F.normalize(torch.stack([self._rows[word] for word in foreign]).mean(dim=0), dim=0)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Looks up one unit vector per text."""
        missing = [text for text in texts if text not in self._rows]
        if missing:
            raise GenLangSplatError(f"There is no vector of {', '.join(missing)}. Use LVIS words.")
        return torch.stack([self._rows[text] for text in texts])


@dataclass(frozen=True)
class ComposedView:
    """A view of a composed scene."""

    name: str
    split: str
    index: int


def labels_of(scene: ComposedScene) -> dict[str, ViewLabels]:
    """The exact masks of every view, for objects with at least 40 visible pixels."""
    labels = {}
    for index, pixels in enumerate(scene.labels):
        masks = [(name, (pixels == number).numpy()) for number, name in enumerate(scene.objects)]
        objects = tuple(LabeledMask(name, mask) for name, mask in masks if mask.sum() >= 40)
        height, width = pixels.shape
        labels[f"{index:04d}"] = ViewLabels(f"{index:04d}.png", width, height, objects)
    return labels


@dataclass(frozen=True)
class FieldRun:
    """A composed scene with arbitrary latents in its pixels.

    Attributes:
        scene: The scene.
        encoder: Its words.
        latents: Returns the latents of the pixels of a view, (height, width, levels, dim).
        decode: Turns these into embeddings.
        identity: The autoencoder.
    """

    scene: ComposedScene
    encoder: WordTable
    latents: Callable[[int], Tensor]
    decode: Callable[[Tensor], Tensor]
    autoencoder_identity: AutoencoderIdentity

    def views(self, split: Any) -> list[ComposedView]:
        """The views of a split."""
        return [
            ComposedView(f"{index:04d}.png", view.split, index)
            for index, view in enumerate(self.scene.views)
            if split in ("all", view.split)
        ]

    def image(self, view: ComposedView) -> Tensor:
        """The image of a view."""
        return self.scene.images[view.index]

    def mask(self, view: ComposedView) -> None:
        """All pixels count."""

    def render(self, view: ComposedView) -> Any:
        """The image and the latents of its pixels."""
        return SimpleNamespace(rgb=self.image(view).float() / 255, latents=self.latents(view.index))


@dataclass(frozen=True)
class SplattedRun(FieldRun):
    """A composed scene with latents on its Gaussians.

    Attributes:
        carried: The latents of the Gaussians.
        weights: The compositing weights of each view.
    """

    carried: Float[Tensor, "num_gaussians levels dim"]
    weights: tuple[CompositingWeights, ...]

    @classmethod
    def of(
        cls,
        scene: ComposedScene,
        encoder: WordTable,
        carried: Float[Tensor, "num_gaussians levels dim"],
        weights: tuple[CompositingWeights, ...],
        decode: Callable[[Tensor], Tensor],
        identity: AutoencoderIdentity,
    ) -> SplattedRun:
        """A run that renders the latents of its Gaussians."""

        def rendered(index: int) -> Tensor:
            return weights[index].composite(carried.flatten(1)).unflatten(-1, carried.shape[1:])

        return cls(scene, encoder, rendered, decode, identity, carried, weights)

    @cached_property
    def field(self) -> LanguageField:
        """The latents of the Gaussians with their decoder."""
        gaussians = self.scene.gaussians
        return LanguageField(gaussians.means, gaussians.opacities, self.carried, self.decode)

    def render_rgb(self, view: ComposedView) -> Tensor:
        """The image of a view."""
        return self.image(view).float() / 255

    def render_opacity(self, view: ComposedView, selected: Tensor) -> Tensor:
        """The share of each pixel that the selected Gaussians contribute; others may occlude them."""
        return self.weights[view.index].composite(selected.float()[:, None])[..., 0]

    def render_scores(self, view: ComposedView, scores: Tensor) -> Tensor:
        """Renders scores, divided by the opacity of the Gaussians that have one."""
        seen, weights = SeenScores(scores), self.weights[view.index]
        return seen.divide(weights.composite(seen.channels), weights.composite(torch.ones(len(scores), 1)))
