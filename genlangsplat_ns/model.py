"""The Gen-LangSplat model: trains splats, then fits one language latent per Gaussian and level on frozen geometry."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.view_file import ViewFeatures
from genlangsplat_ns.field_head import LanguageFieldHead
from genlangsplat_ns.language.compression import restore_latents
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.gaussian_scores import SeenScores
from genlangsplat_ns.language.memory import MEMORY_REQUIRED, NO_MEMORY, SceneMemory, take_memory
from genlangsplat_ns.language.named_autoencoders import AUTO
from genlangsplat_ns.language.settings import DecoderName, QueryMode
from genlangsplat_ns.language.visualize import LatentPca, highlight, relevancy_overlay, soft_mask
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.lifting.loss import language_fidelity, language_loss
from genlangsplat_ns.lifting.regions import region_targets
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.rasterization import CompositingWeights, WeightCache, compositing_weights
from genlangsplat_ns.splat_model import SplatModel, SplatModelConfig, entries_of_gaussians
from genlangsplat_ns.utils.stored_settings import StoredSettings
from genlangsplat_ns.viewer.panel import LanguageControls
from genlangsplat_ns.viewer.tools import SceneTools

LOGGER = logging.getLogger(__name__)

REMOVED = {
    "language_average": "mean",
    "language_visibility_gate": 1.0,
    "language_visibility_cap": 1.0,
    "language_gradient_steps": 0,
    "language_damping": 0.1,
}
"""Settings of earlier versions, with their defaults: ways to lift that lost in every measurement."""


@dataclass
class GenLangSplatModelConfig(StoredSettings, SplatModelConfig):
    """Settings of the Gaussians and of their language latents."""

    _target: type = field(default_factory=lambda: GenLangSplatModel)
    """target class to instantiate"""
    autoencoder: str = "auto"
    """A .safetensors file, a name, projection, or auto: a named one that fits the encoder, else the projection."""
    decoder: DecoderName = "memory"
    """Decoder of the latents: the scene memory, or the autoencoder's decoder alone (as in the paper)."""
    language_start_step: int | None = None
    """Step at which the geometry freezes and the language phase begins; None reserves the last steps for it."""
    language_solver: Literal["lift", "adam"] = "lift"
    """How latents are fitted: lift is one closed-form pass over the views, adam is the paper's optimization."""
    language_steps: int | None = None
    """Length of the language phase; None means 1 step for lift and 30000 for adam."""
    language_warm_start: bool = False
    """With adam: start from the lifted latents instead of zeros (the paper starts from zeros)."""
    language_cosine_weight: float = 1.0
    """With adam: weight of the cosine term (gamma in the paper's equation 9, which gives no value)."""
    language_cache_gb: float = 2.0
    """Without a GPU: gigabytes of compositing weights to cache; views beyond that are rendered again at each use."""
    lifting: LiftSettings = field(default_factory=LiftSettings)
    """How latents are lifted."""
    query_texts: str = ""
    """Initial query texts of the viewer and ns-render, separated by semicolons."""
    query_mode: QueryMode = "gaussian"
    """Query mode of the viewer and ns-render: gaussian splats scores, rendered decodes and scores every pixel."""

    @property
    def num_language_steps(self) -> int:
        """Number of steps in the language phase."""
        if self.language_steps is not None:
            return self.language_steps
        return 1 if self.language_solver == "lift" else 30_000

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Loads the settings of a stored config, also from versions without `LiftSettings`."""
        if "lifting" not in state:
            rounds = state.get("language_robust_rounds", LiftSettings.robust_rounds)
            changed = [name for name, default in REMOVED.items() if state.get(name, default) != default]
            if changed:
                LOGGER.warning("Settings of the run that no longer exist are ignored: %s.", ", ".join(changed))
            kept = {name: value for name, value in state.items() if name not in (*REMOVED, "language_robust_rounds")}
            state = kept | {"lifting": LiftSettings(rounds)}
        super().__setstate__(state)


class GenLangSplatModel(SplatModel):
    """Splatfacto with language latents (paper, section III)."""

    config: GenLangSplatModelConfig
    language_phase_start: Tensor
    memory: SceneMemory | None

    def populate_modules(self) -> None:
        """Adds the latents, the frozen autoencoder and the viewer controls to the splats.

        The pipeline passes `autoencoder` and `load_text_encoder` to the constructor.
        """
        super().populate_modules()
        # Invalid settings are reported now and not after the RGB phase.
        self.config.lifting.validate()
        self.field_head = LanguageFieldHead(self.kwargs["autoencoder"])
        latents = torch.zeros(self.num_points, len(LEVELS), self.field_head.latent_dim)
        self.gauss_params["latents"] = nn.Parameter(latents)
        self.register_buffer("language_phase_start", torch.tensor(-1))
        self.register_module("memory", None)
        self.shown: Tensor | None = None
        self._field: LanguageField | None = None
        self._latent_pca: LatentPca | None = None
        self._apply_phase()
        self.tools = SceneTools(
            self.language_field,
            self.render_latents,
            self.show,
            lambda keep: self.splats(keep & self.drawable()),
            self.config.rasterize_mode == "antialiased",
            self.render_splats,
        )
        self.language = LanguageControls(
            self.kwargs["load_text_encoder"], self.tools, self.config.query_texts, self.config.query_mode
        )

    @property
    def latents(self) -> Float[Tensor, "num_gaussians levels latent_dim"]:
        """The latents of all Gaussians."""
        return self.gauss_params["latents"]

    # Phases

    def enter_language_phase(self, step: int) -> None:
        """Freezes all parameters except the latents, and ends densification and downscaling."""
        self.language_phase_start.fill_(step)
        self._apply_phase()

    def _apply_phase(self) -> None:
        # Reading a buffer synchronizes CUDA, so a Python attribute mirrors the phase.
        self.in_language_phase = int(self.language_phase_start) >= 0
        if self.in_language_phase:
            for parameter in self.parameters():
                parameter.requires_grad_(False)
                parameter.grad = None
            self.latents.requires_grad_(self.config.language_solver == "adam")
            if self.config.query_texts.strip():
                self.language.ask()
        self._discard_field()
        self._weight_cache = WeightCache(int(self.config.language_cache_gb * 1e9))

    @property
    def field(self) -> LanguageField:
        """The language field of the current latents, which answers queries; before the language phase they are zero.

        It must not raise, because the viewer reads every attribute of the model.
        """
        if self._field is None:
            opacities = torch.sigmoid(self.opacities).squeeze(-1)
            prior, decoder = self.field_head.autoencoder.decode, self.config.decoder
            self._field = LanguageField(
                self.means, opacities, self.latents, prior, self.memory, decoder, self._latent_pca
            )
        return self._field

    def language_field(self) -> LanguageField:
        """Returns `field`, and refuses a run that cannot answer yet.

        Raises:
            GenLangSplatError: The run has no language phase.
        """
        if not self.in_language_phase:
            raise GenLangSplatError(
                f"This run has no language phase yet (its checkpoint is from step {self.step}, in the RGB phase). "
                "Resume it to the end with ns-train gen-langsplat --load-dir RUN/nerfstudio_models."
            )
        return self.field

    def _discard_field(self, keep_colors: bool = False) -> None:
        """Discards the field after a change; the PCA is kept where colors must stay stable."""
        if not keep_colors:
            self._latent_pca = None
        elif self._field is not None:
            self._latent_pca = self._field.pca
        self._field = None

    @torch.no_grad()
    def set_latents(self, lifted: LiftedLatents, memory: SceneMemory | None = None) -> None:
        """Sets the latents of the Gaussians, and the memory that decodes them."""
        self.latents.copy_(lifted.latents)
        self.set_memory(memory)
        self._discard_field()
        if self.config.language_solver == "lift":
            self._weight_cache = WeightCache(0)

    def set_memory(self, memory: SceneMemory | None) -> None:
        """Sets the memory that decodes the latents; with None, the autoencoder decodes."""
        self.memory = None if memory is None else memory.to(self.device)
        self._discard_field(keep_colors=True)

    def decode_by(self, decoder: DecoderName) -> None:
        """Sets the decoder of the latents.

        Raises:
            GenLangSplatError: The decoder is `memory` and the run has none.
        """
        if decoder == "memory" and self.memory is None:
            raise GenLangSplatError(MEMORY_REQUIRED)
        self.config.decoder = decoder
        self._discard_field(keep_colors=True)

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> Any:
        """Loads a checkpoint; a checkpoint of stock splatfacto starts in the RGB phase with zero latents."""
        # A checkpoint without Gaussians is refused before anything changes.
        state = restore_latents({"language_phase_start": torch.tensor(-1), **entries_of_gaussians(dict)})
        if self.config.autoencoder == AUTO and self.field_head.take_autoencoder(state, "field_head."):
            self.latents.data = self.latents.data.new_zeros(self.num_points, len(LEVELS), self.field_head.latent_dim)
        own = self.field_head.state_dict(prefix="field_head.")
        if state.keys().isdisjoint(own):
            # A checkpoint of splatfacto has no autoencoder.
            state |= own
        state.setdefault("field_head._extra_state", own["field_head._extra_state"])
        # A wrong autoencoder is reported before a memory that does not fit it.
        self.field_head.set_extra_state(state["field_head._extra_state"])
        self.set_memory(take_memory(state, "memory.", self.field_head.autoencoder.identity, self.config.decoder))
        result = super().load_state_dict(state, **kwargs)
        self._apply_phase()
        # Adam fits the latents without a memory.
        expected = self.config.decoder == "memory" and self.config.language_solver == "lift"
        if self.in_language_phase and self.memory is None and expected:
            LOGGER.warning(NO_MEMORY)
        return result

    def update_to_step(self, step: int) -> None:
        """Sets the step of a loaded checkpoint, which determines the degree of the spherical harmonics."""
        self.step = step

    def get_gaussian_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns one optimizer group per parameter, including the latents."""
        return {name: [parameter] for name, parameter in self.gauss_params.items()}

    def active_sh_degree(self) -> int:
        """Returns the full degree in the language phase; coefficients that the RGB phase never activated are zero."""
        return self.config.sh_degree if self.in_language_phase else super().active_sh_degree()

    def _get_downscale_factor(self) -> int:
        return 1 if self.in_language_phase else super()._get_downscale_factor()

    def step_post_backward(self, step: int) -> None:
        """Densifies in the RGB phase only."""
        if not self.in_language_phase:
            super().step_post_backward(step)

    def cropped(self) -> Tensor | None:
        """Returns the mask of the drawn Gaussians: inside the crop box and not hidden by the viewer; None for all."""
        keep, shown = super().cropped(), self.shown
        if shown is None or self.training:
            return keep
        return shown if keep is None else keep & shown

    # Language: targets, rendering, loss

    @torch.no_grad()
    def language_targets(
        self, features: ViewFeatures
    ) -> tuple[Float[Tensor, "height width levels latent_dim"], Bool[Tensor, "height width levels"]]:
        """Encodes a view's embeddings and rasterizes them into its regions."""
        latents = self.field_head.autoencoder.encode(features.embeddings.to(self.device))
        return region_targets(features.regions.to(self.device), latents)

    def render_latents(
        self, camera: Cameras, latents: Tensor | None = None
    ) -> Float[Tensor, "height width levels latent_dim"]:
        """Composites latents of all levels over black; None for the model's own latents.

        The result is neither normalized nor divided by the opacity.
        """
        view = self.view(camera)
        keep = self.cropped()
        latents = self.latents if latents is None else latents
        latents = latents if keep is None else latents[keep]
        if len(latents) == 0:
            return latents.new_zeros(view.height, view.width, *latents.shape[1:])
        render, _, _ = self.splat(self.geometry(keep), latents.flatten(1), view)
        return render[0].unflatten(-1, latents.shape[1:])

    def _training_latents(self, camera: Cameras) -> Float[Tensor, "height width levels latent_dim"]:
        """Renders latents; on the CPU with cached compositing weights if the view has an index."""
        index = (camera.metadata or {}).get("cam_idx")
        if self.means.is_cuda or index is None:
            return self.render_latents(camera)

        def extract() -> CompositingWeights:
            mode = self.config.rasterize_mode
            return compositing_weights(self.geometry(), self.view(camera), rasterize_mode=mode, half_precision=True)

        weights = self._weight_cache.get(index, extract)
        return weights.composite(self.latents.flatten(1)).unflatten(-1, self.latents.shape[1:])

    def render_splats(self, camera: Cameras) -> dict[str, Tensor]:
        """Renders only splatfacto's outputs."""
        return super().get_outputs(camera)

    def render_opacity(
        self, camera: Cameras, selected: Bool[Tensor, " num_gaussians"]
    ) -> Float[Tensor, "height width"]:
        """Renders the opacity of only the selected Gaussians."""
        geometry, view = self.geometry(selected), self.view(camera)
        if len(geometry) == 0:
            return geometry.means.new_zeros(view.height, view.width)
        _, alpha, _ = self.splat(geometry, torch.ones_like(geometry.means[:, :1]), view)
        return alpha[0, ..., 0]

    def get_outputs(self, camera: Cameras) -> dict[str, Any]:
        """Renders colors or latents in training, depending on the phase, and all images in evaluation."""
        if not self.training:
            return self._render_images(camera)
        if not self.in_language_phase:
            return super().get_outputs(camera)
        if self.config.language_solver == "lift":
            return {}
        # The optimizer is about to change the latents.
        self._discard_field(keep_colors=True)
        return {"latents": self._training_latents(camera)}

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """Computes the RGB metrics, or in the language phase the fidelity of the rendered latents."""
        if "rgb" in outputs:
            return super().get_metrics_dict(outputs, batch)
        metrics: dict[str, Any] = {"gaussian_count": self.num_points}
        if "latents" in outputs:
            targets, valid = self.language_targets(batch["language"])
            l1, cosine = language_fidelity(outputs["latents"].detach(), targets, valid)
            metrics |= {"lang_l1": l1, "lang_cosine": cosine}
        return metrics

    def get_loss_dict(self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: Any = None) -> dict[str, Any]:
        """Computes the RGB loss, or the paper's language loss."""
        if "rgb" in outputs:
            return super().get_loss_dict(outputs, batch, metrics_dict)
        if "latents" not in outputs:
            # Lifting needs no optimization, but the trainer requires a differentiable loss.
            return {"language_loss": torch.zeros((), device=self.device, requires_grad=True)}
        targets, valid = self.language_targets(batch["language"])
        l1, one_minus_cosine = language_loss(outputs["latents"], targets, valid)
        return {"language_l1": l1, "language_cosine": self.config.language_cosine_weight * one_minus_cosine}

    # Images for the viewer and ns-render

    @torch.no_grad()
    def render_scores(
        self, camera: Cameras, seen: SeenScores
    ) -> tuple[dict[str, Tensor], Float[Tensor, "height width channels"]]:
        """Renders splatfacto's outputs and, in the same pass, scores of Gaussians divided by the seen opacity."""
        outputs = super().get_outputs(camera, [seen.channels])
        return outputs, seen.divide(outputs.pop("extra_channels"), outputs["accumulation"])

    @torch.no_grad()
    def _render_images(self, camera: Cameras) -> dict[str, Tensor]:
        """Renders splatfacto's outputs and the language images; the keys are always the same.

        The colors of latents are splatted, not computed from splatted latents: this adds 3 channels to the pass instead
        of a second pass with 48 channels.
        """
        field = self.field if self.in_language_phase else None
        query = None if field is None else self.language.query()
        extra_channels, seen = [], None
        if field is not None:
            extra_channels.append(field.colors)
            if query is not None and self.language.g_mode.value == "gaussian":
                seen = field.seen_scores(query, highest=True)
                extra_channels.append(seen.channels)
        outputs = super().get_outputs(camera, extra_channels)
        rgb, alphas = outputs["rgb"], outputs["accumulation"]
        shown = outputs.pop("extra_channels", None)
        relevancy, latent_pca, selection = torch.zeros_like(alphas), torch.zeros_like(rgb), torch.zeros_like(rgb)
        overlay = composited = rgb
        if field is not None and shown is not None:
            latent_pca = shown[..., :3].clamp(0.0, 1.0)
            if query is not None:
                if seen is not None:
                    relevancy = seen.divide(shown[..., 3:], alphas)
                else:
                    answers = field.answer_view(self.render_latents(camera), query)
                    relevancy = torch.stack([answer.map for answer in answers]).amax(dim=0)[..., None]
                overlay = relevancy_overlay(rgb, relevancy[..., 0])
                mask = soft_mask(relevancy, self.language.h_threshold.value, self.language.i_softness.value)
                selection, composited = mask.expand_as(rgb), highlight(rgb, mask)
        images = {"relevancy": relevancy, "relevancy_overlay": overlay, "selection": selection}
        return {**outputs, **images, "composited": composited, "latent_pca": latent_pca}

    def show(self, keep: Bool[Tensor, " num_gaussians"] | None) -> None:
        """Restricts drawing to these Gaussians; None draws all."""
        self.shown = None if keep is None else keep.to(self.device)
