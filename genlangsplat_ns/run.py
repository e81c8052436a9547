"""A trained run, opened: its views, what they look like and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genlangsplat_ns.datamanager import Split
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder, load_encoder
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery, ViewAnswer, answer_texts, embed_query, relevancy_maps
from genlangsplat_ns.pipeline import GenLangSplatPipeline


@dataclass(frozen=True)
class RunView:
    """One view of a run."""

    name: str
    """File name of the photograph."""
    split: Split
    """train or eval (held out)."""
    index: int
    """Place in its split."""


@dataclass(frozen=True)
class RenderedView:
    """What a run shows of a view."""

    rgb: Float[Tensor, "height width 3"]
    """Colours, 0 to 1."""
    latents: Float[Tensor, "height width levels latent_dim"]
    """Composited latents, not normalised."""


class LanguageRun:
    """A trained run that can be asked.

    Example:
        run = LanguageRun.open(Path("outputs/fox/gen-langsplat-lite/2026-01-01_120000/config.yml"))
        view = run.views("eval")[0]
        answer = run.ask("a fox", view)
        answer.map, answer.mask, answer.peak, answer.score
    """

    def __init__(self, pipeline: GenLangSplatPipeline, checkpoint: Path | None = None, step: int = 0) -> None:
        pipeline.model.check_language()
        self.pipeline = pipeline
        self.model = pipeline.model
        self.datamanager = pipeline.datamanager
        self.checkpoint = checkpoint
        self.step = step

    @classmethod
    def open(cls, config_path: Path) -> LanguageRun:
        """Loads a run for asking.

        Args:
            config_path: The run's `config.yml`. nerfstudio's loader runs what it names: open only runs you trust.

        Raises:
            GenLangSplatError: The file is not a run of this project, or the run has no language phase.
        """
        # nerfstudio registers its methods while this module is imported by them, so it cannot stand at the top.
        from nerfstudio.utils.eval_utils import eval_setup

        if not config_path.is_file():
            raise GenLangSplatError(f"There is no {config_path}. Expected the config.yml that ns-train wrote.")

        def where_it_lies(config):  # type: ignore[no-untyped-def]
            # A run may have been moved, or be opened from another working folder.
            if len(config_path.resolve().parents) > 3:
                config.output_dir = config_path.resolve().parents[3]
            return config

        _, pipeline, checkpoint, step = eval_setup(config_path, test_mode="test", update_config_callback=where_it_lies)
        if not isinstance(pipeline, GenLangSplatPipeline):
            raise GenLangSplatError(
                f"{config_path} is a run of {type(pipeline).__name__}, expected one of gen-langsplat. Train one with "
                "`ns-train gen-langsplat --data SCENE`."
            )
        return cls(pipeline, checkpoint, step)

    @property
    def encoder(self) -> ImageTextEncoder:
        """The image-text encoder the run's features come from, loaded once per process."""
        return load_encoder(self.datamanager.encoder_name, str(self.model.device))

    @property
    def autoencoder_identity(self) -> AutoencoderIdentity:
        """Which autoencoder the latents belong to."""
        return self.model.field_head.autoencoder.identity

    def decode(self, latents: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Turns latents into unit embeddings."""
        return self.model.field_head(latents)

    def views(self, split: Literal["train", "eval", "all"] = "all") -> list[RunView]:
        """Lists the views of a split, held-out ones last."""
        splits: tuple[Split, ...] = ("train", "eval") if split == "all" else (split,)
        return [
            RunView(self.datamanager.view_name(part, index), part, index)
            for part in splits
            for index in range(len(self.datamanager.dataset(part)))
        ]

    def image(self, view: RunView) -> UInt8[Tensor, "height width 3"]:
        """Returns the undistorted photograph of a view."""
        return self.datamanager.image(view.split, view.index)

    @torch.no_grad()
    def render(self, view: RunView) -> RenderedView:
        """Renders colours and latents of a view."""
        camera = self.datamanager.camera(view.split, view.index)
        return RenderedView(self.model.render_rgb(camera), self.model.render_latents(camera))

    def embed(self, query: TextQuery) -> EmbeddedQuery:
        """Embeds the texts of a query with the run's encoder."""
        return embed_query(query, self.encoder)

    def answer(self, query: EmbeddedQuery, rendered: RenderedView) -> list[ViewAnswer]:
        """Scores a rendered view against every text of a query."""
        return answer_texts(relevancy_maps(rendered.latents, self.decode, query), query.query)

    def ask(self, text: str, view: RunView) -> ViewAnswer:
        """Answers one text in one view with the default settings."""
        return self.answer(self.embed(TextQuery((text,))), self.render(view))[0]
