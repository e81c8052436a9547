"""A trained scene with its views, renders and language queries. This is the interface for scripts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from genlangsplat_ns.datamanager import GenLangSplatDataManager, Split
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.language.answers import ViewAnswer
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.decoding import Decode
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.gaussian_scores import SeenScores
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery, embed_query
from genlangsplat_ns.language.selection import GaussianSelection
from genlangsplat_ns.language.settings import QueryMode, SelectionSettings
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.scene_io.runs import StoredRun
from genlangsplat_ns.views.cameras import pixel_in_space

COMMON_NAMES = ("data", "dataset", "scene")
"""Names of folders of data that say nothing of the scene."""


@dataclass(frozen=True)
class SceneView:
    """One view of a scene."""

    name: str
    """Path of the photograph below the folder that holds all photographs of the scene."""
    split: Split
    """train or eval (held out)."""
    index: int
    """Index in its split."""


@dataclass(frozen=True)
class RenderedView:
    """Colors, 0 to 1, and latents rendered in a view."""

    rgb: Float[Tensor, "height width 3"]
    latents: Float[Tensor, "height width levels latent_dim"]
    """Composited latents, not normalized."""


@dataclass(frozen=True, eq=False)
class AnsweredView:
    """A rendered view, with colors from 0 to 1, and the answers to the texts of a query."""

    rgb: Float[Tensor, "height width 3"]
    answers: list[ViewAnswer]
    points: list[tuple[float, float, float]]
    """For each text, the scene point at its peak, in the coordinate frame of the run."""


class LanguageScene:
    """A trained scene that answers queries. Results are on the CPU, so `.numpy()` works.

    Example:
        scene = open_run("outputs/fox/gen-langsplat-lite/2026-01-01_120000/config.yml")
        answer = scene.ask("a fox", scene.views("eval")[0])
        heat, mask = answer.map.numpy(), answer.mask.numpy()
        chosen = scene.select("a fox").keep.numpy()
    """

    def __init__(
        self,
        model: GenLangSplatModel,
        datamanager: GenLangSplatDataManager,
        stored: StoredRun | None = None,
        field: LanguageField | None = None,
    ) -> None:
        self.model = model
        self.datamanager = datamanager
        self.stored = stored
        self._field = field

    @property
    def encoder(self) -> ImageTextEncoder:
        """The image-text encoder of the run's features, loaded on first use."""
        return self.datamanager.extractor.load_text_encoder()

    @property
    def autoencoder_identity(self) -> AutoencoderIdentity:
        """Identity of the autoencoder of the latents."""
        return self.model.field_head.autoencoder.identity

    @property
    def field(self) -> LanguageField:
        """The language field, which answers queries about the Gaussians.

        Raises:
            GenLangSplatError: The run has no language phase.
        """
        return self._field or self.model.language_field()

    @property
    def decode(self) -> Decode:
        """Maps latents to unit embeddings."""
        return self.field.decode

    def with_latents(self, latents: Float[Tensor, "num_gaussians levels latent_dim"]) -> LanguageScene:
        """Returns the same scene with other latents."""
        return LanguageScene(self.model, self.datamanager, self.stored, self.field.with_latents(latents))

    @property
    def name(self) -> str:
        """The name of the folder of the scene's data."""
        data = Path(self.datamanager.config.dataparser.data).resolve()
        return (data if data.is_dir() else data.parent).name

    @property
    def title(self) -> str:
        """The name for people: that of the data, or of the run's experiment if all data are called so."""
        experiment = self.stored.experiment if self.stored else None
        return experiment or self.name if self.name in COMMON_NAMES else self.name

    def views(self, split: Literal["train", "eval", "all"] = "all") -> list[SceneView]:
        """Lists the views of a split; held-out views come last."""
        splits: tuple[Split, ...] = ("train", "eval") if split == "all" else (split,)
        return [
            SceneView(self.datamanager.view_name(name, index), name, index)
            for name in splits
            for index in range(len(self.datamanager.dataset(name)))
        ]

    def image(self, view: SceneView) -> UInt8[Tensor, "height width 3"]:
        """Returns the undistorted photograph of a view."""
        return self.datamanager.image(view.split, view.index)

    def mask(self, view: SceneView) -> Bool[Tensor, "height width"] | None:
        """Returns the pixels of a view that count; None for all. The others are masked or transparent."""
        return self.datamanager.mask(view.split, view.index)

    def undistort_labels(self, labels: ViewLabels, view: SceneView) -> ViewLabels:
        """Warps labels of the raw photograph, at any size, to the undistorted view."""
        height, width = self.image(view).shape[:2]
        size = (labels.width, labels.height)
        return labels.warped(
            width,
            height,
            lambda points: self.datamanager.undistort(view.split, view.index, points, size),
            lambda mask: self.datamanager.undistort_mask(view.split, view.index, mask),
        )

    def camera(self, view: SceneView) -> Cameras:
        """Returns the camera of a view."""
        return self.datamanager.camera(view.split, view.index)

    @torch.no_grad()
    def render(self, view: SceneView) -> RenderedView:
        """Renders colors and latents of a view."""
        camera = self.camera(view)
        latents = self.model.render_latents(camera, self.field.latents)
        return RenderedView(self.model.render_splats(camera)["rgb"], latents)

    @torch.no_grad()
    def render_rgb(self, view: SceneView) -> Float[Tensor, "height width 3"]:
        """Renders only the colors of a view."""
        return self.model.render_splats(self.camera(view))["rgb"]

    @torch.no_grad()
    def render_opacity(
        self, view: SceneView, selected: Bool[Tensor, " num_gaussians"]
    ) -> Float[Tensor, "height width"]:
        """Renders the opacity of the selected Gaussians without occlusion by other Gaussians."""
        return self.model.render_opacity(self.camera(view), selected)

    @torch.no_grad()
    def render_scores(
        self, view: SceneView, scores: Float[Tensor, "num_gaussians channels"]
    ) -> Float[Tensor, "height width channels"]:
        """Renders scores divided by the opacity of the Gaussians with a nonzero score; 0 where none is visible."""
        return self.model.render_scores(self.camera(view), SeenScores(scores))[1]

    def embed(self, query: TextQuery) -> EmbeddedQuery:
        """Embeds the texts of a query with the run's encoder."""
        return embed_query(query, self.encoder)

    @torch.no_grad()
    def answer(self, query: EmbeddedQuery, camera: Cameras, mode: QueryMode = "gaussian") -> AnsweredView:
        """Renders the view of one perspective camera and answers each text of a query in it.

        The mode `gaussian` splats the scores of Gaussians; `rendered` decodes and scores every pixel.
        """
        if mode == "gaussian":
            outputs, relevancy = self.model.render_scores(camera, self.field.seen_scores(query))
            answers = self.field.answer_splatted(relevancy, query)
        else:
            outputs = self.model.render_splats(camera)
            answers = self.field.answer_view(self.model.render_latents(camera, self.field.latents), query)
        geometry, depth = self.model.view(camera), outputs["depth"]
        points = [pixel_in_space(geometry, (x, y), float(depth[y, x])) for x, y in (item.peak for item in answers)]
        on_cpu = [replace(answer, map=answer.map.cpu(), mask=answer.mask.cpu()) for answer in answers]
        return AnsweredView(outputs["rgb"].cpu(), on_cpu, points)

    def ask(self, text: str, view: SceneView, mode: QueryMode = "gaussian") -> ViewAnswer:
        """Answers one text in one view with the default settings."""
        return self.answer(self.embed(TextQuery((text,))), self.camera(view), mode).answers[0]

    def select(self, text: str, settings: SelectionSettings | None = None) -> GaussianSelection:
        """Selects the Gaussians that answer one text, with the default settings of a query."""
        return self.field.find(self.embed(TextQuery((text,))), settings)[0].selection
