"""A trained scene: its views, what they look like and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genlangsplat_ns.datamanager import GenLangSplatDataManager, Split
from genlangsplat_ns.evaluation.lerf_ovs import LabeledObject, ViewLabels
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.query import (
    EmbeddedQuery,
    TextQuery,
    ViewAnswer,
    answer_texts,
    embed_query,
    relevancy_maps,
)
from genlangsplat_ns.model import GenLangSplatModel


@dataclass(frozen=True)
class SceneView:
    """One view of a scene."""

    name: str
    """File name of the photograph."""
    split: Split
    """train or eval (held out)."""
    index: int
    """Place in its split."""


@dataclass(frozen=True)
class RenderedView:
    """What a scene shows of a view."""

    rgb: Float[Tensor, "height width 3"]
    """Colours, 0 to 1."""
    latents: Float[Tensor, "height width levels latent_dim"]
    """Composited latents, not normalised."""


class LanguageScene:
    """A trained scene that can be asked.

    Example:
        scene = open_run(Path("outputs/fox/gen-langsplat-lite/2026-01-01_120000/config.yml"))
        view = scene.views("eval")[0]
        answer = scene.ask("a fox", view)
        answer.map, answer.mask, answer.peak, answer.score
    """

    def __init__(self, model: GenLangSplatModel, datamanager: GenLangSplatDataManager) -> None:
        model.check_language()
        self.model = model
        self.datamanager = datamanager

    @property
    def encoder(self) -> ImageTextEncoder:
        """The image-text encoder the run's features come from, loaded with the first text."""
        return self.datamanager.front_end.load_text_encoder()

    @property
    def autoencoder_identity(self) -> AutoencoderIdentity:
        """Which autoencoder the latents belong to."""
        return self.model.field_head.autoencoder.identity

    def decode(self, latents: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Turns latents into unit embeddings."""
        return self.model.field_head(latents)

    def views(self, split: Literal["train", "eval", "all"] = "all") -> list[SceneView]:
        """Lists the views of a split, held-out ones last."""
        splits: tuple[Split, ...] = ("train", "eval") if split == "all" else (split,)
        return [
            SceneView(self.datamanager.view_name(part, index), part, index)
            for part in splits
            for index in range(len(self.datamanager.dataset(part)))
        ]

    def image(self, view: SceneView) -> UInt8[Tensor, "height width 3"]:
        """Returns the undistorted photograph of a view."""
        return self.datamanager.image(view.split, view.index)

    def undistort_labels(self, labels: ViewLabels, view: SceneView) -> ViewLabels:
        """Moves outlines drawn on the raw photograph to the undistorted view."""

        def moved(points: Any) -> Any:
            pixels = np.asarray(points, dtype=np.float64).reshape(-1, 2)
            return self.datamanager.undistort(view.split, view.index, pixels, (labels.width, labels.height)).tolist()

        height, width = self.image(view).shape[:2]
        objects = []
        for item in labels.objects:
            (left, top), (right, bottom) = moved(item.box)
            polygon = tuple((x, y) for x, y in moved(item.polygon))
            objects.append(LabeledObject(item.category, polygon, (left, top, right, bottom)))
        return ViewLabels(labels.name, width, height, tuple(objects), labels.skipped)

    @torch.no_grad()
    def render(self, view: SceneView) -> RenderedView:
        """Renders colours and latents of a view."""
        camera = self.datamanager.camera(view.split, view.index)
        return RenderedView(self.model.render_rgb(camera), self.model.render_latents(camera))

    def embed(self, query: TextQuery) -> EmbeddedQuery:
        """Embeds the texts of a query with the run's encoder."""
        return embed_query(query, self.encoder)

    def answer(self, query: EmbeddedQuery, rendered: RenderedView) -> list[ViewAnswer]:
        """Scores a rendered view against every text of a query."""
        return answer_texts(relevancy_maps(rendered.latents, self.decode, query), query.query)

    def ask(self, text: str, view: SceneView) -> ViewAnswer:
        """Answers one text in one view with the default settings."""
        return self.answer(self.embed(TextQuery((text,))), self.render(view))[0]
