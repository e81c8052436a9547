"""The two phases and what joins them: RGB training, then lifting or fitting of language latents."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from rich.markup import escape

from genlangsplat_ns.datamanager import GenLangSplatDataManager, GenLangSplatDataManagerConfig
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.field_head import scene_autoencoder
from genlangsplat_ns.language.memory import SceneMemory
from genlangsplat_ns.language.named_autoencoders import falls_back_to_projection
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.lifting.lift import lift_latents
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions, collect_regions
from genlangsplat_ns.lifting.region_views import PosedView, RegionViews
from genlangsplat_ns.model import GenLangSplatModel, GenLangSplatModelConfig
from genlangsplat_ns.rasterization import WeightCache
from genlangsplat_ns.scene.init_from import GeometrySource, open_geometry
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.metrics import language_metrics
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path

MIN_RGB_STEPS = 10
"""A run that would leave fewer steps for the RGB phase is a mistake."""


@dataclass
class GenLangSplatPipelineConfig(VanillaPipelineConfig):
    """Settings of data and model."""

    _target: type = field(default_factory=lambda: GenLangSplatPipeline)
    """target class to instantiate"""
    datamanager: GenLangSplatDataManagerConfig = field(default_factory=GenLangSplatDataManagerConfig)
    """Views and language features."""
    model: GenLangSplatModelConfig = field(default_factory=GenLangSplatModelConfig)
    """Gaussians and latents."""
    init_from: Path | None = None
    """Begin with these Gaussians and the language phase: a splatfacto or own run, its checkpoint, or a .ply file."""
    init_frame: Literal["auto", "nerfstudio", "data"] = "auto"
    """Where a .ply lies: nerfstudio is the frame of ns-export, data that of the poses; auto asks the photographs."""
    run_dir: tyro.conf.Suppress[Path | None] = None
    """Folder of a run that is opened again, where ns-eval leaves its details; set by whoever opens it."""


class GenLangSplatPipeline(VanillaPipeline):
    """Joins views, language features and the model."""

    config: GenLangSplatPipelineConfig
    datamanager: GenLangSplatDataManager
    model: GenLangSplatModel

    def __init__(
        self,
        config: GenLangSplatPipelineConfig,
        device: torch.device | str,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: Any = None,
    ) -> None:
        # nerfstudio's own pipeline makes data and model in one go; here the features are extracted between them, and
        # before that whatever can be wrong with the Gaussians to begin with is told.
        super(VanillaPipeline, self).__init__()
        self.config, self.test_mode, self.world_size = config, test_mode, world_size
        extractor = FeatureExtractor(config.datamanager, device)
        # What auto means depends on the machine, but a run keeps what it was trained with wherever it is opened.
        config.datamanager.encoder, config.datamanager.masks = extractor.encoder_name, extractor.mask_name
        # An autoencoder of another encoder is told before hours of extraction, not after them.
        autoencoder = scene_autoencoder(config.model.autoencoder, extractor).identity
        if test_mode == "val" and falls_back_to_projection(config.model.autoencoder, extractor.encoder_identity):
            CONSOLE.print(
                f"[bold yellow]No pre-trained autoencoder fits the encoder {escape(autoencoder.encoder)}; a fixed "
                f"random projection of its embeddings to {autoencoder.latent_dim} numbers takes its place. With the "
                "scene's memory it finds as much as a trained one. Name a pre-trained one with "
                "--pipeline.model.autoencoder."
            )
        source: GeometrySource | None = None
        if config.init_from is not None and test_mode == "val":
            source = open_geometry(config.init_from)
            source.take_settings(config.model)
        self.datamanager = config.datamanager.setup(
            device=device, test_mode=test_mode, world_size=world_size, local_rank=local_rank, prepare=False
        )
        gaussians = None if source is None else source.place(self.datamanager, config.init_frame)
        if test_mode == "val":
            self.datamanager.prepare_language()
        points = self.datamanager.train_dataparser_outputs.metadata
        self._model = config.model.setup(
            scene_box=self.datamanager.train_dataset.scene_box,
            num_train_data=len(self.datamanager.train_dataset),
            metadata=self.datamanager.train_dataset.metadata,
            device=device,
            grad_scaler=grad_scaler,
            seed_points=(points["points3D_xyz"], points["points3D_rgb"]) if "points3D_xyz" in points else None,
            gaussians=gaussians,
        )
        if source is not None:
            if source.pose_adjustment is not None:
                self.model.camera_optimizer.pose_adjustment.data.copy_(source.pose_adjustment)
            CONSOLE.print(
                f"Took {self.model.num_points:,} Gaussians with harmonics of degree {config.model.sh_degree} from "
                f"{escape(str(source.path))}; the language phase comes next."
            )
        self.model.to(device)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Adds the switch to the language phase before everything else that happens in a step.

        Raises:
            GenLangSplatError: The run is too short for both phases, or a resumed run is complete already.
        """
        trainer = training_callback_attributes.trainer
        assert trainer is not None, "nerfstudio's trainer passes itself"
        done = trainer._start_step
        if self.model.config.language_solver == "adam":
            # The optimization is about to change what a memory decodes; one is fitted at the end.
            self.model.set_memory(None)
        if self.config.init_from is not None:
            trainer.config.max_num_iterations = self.model.config.num_language_steps
            if done > 0 and not self.model.in_language_phase:
                raise GenLangSplatError(
                    f"The checkpoint to resume from is from step {done - 1} of the RGB phase, but --pipeline.init-from "
                    "begins with the language phase. To go on with that run, leave out --pipeline.init-from; to begin "
                    "with its Gaussians, name the checkpoint there and leave out --load-dir and --load-checkpoint."
                )
        start, end = self._language_span(trainer.config.max_num_iterations)
        if done >= end:
            raise GenLangSplatError(
                f"This run is complete: its checkpoint is from step {done - 1}, and the run ends after {end} steps. "
                "Raise --max-num-iterations to go on."
            )

        def switch(step: int) -> None:
            if step >= start and not self.model.in_language_phase:
                if step > 0:
                    # A kill during the lift then costs the lift alone.
                    trainer.save_checkpoint(step - 1)
                self.begin_language_phase(step)

        def stop(step: int) -> None:
            # nerfstudio runs max_num_iterations more steps after a resume.
            if step + 1 >= end:
                trainer.stop_training = True
                if self.model.config.language_solver == "adam":
                    self.model.set_memory(self.remember())

        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [
            TrainingCallback([before], switch),
            *super().get_training_callbacks(training_callback_attributes),
            TrainingCallback([after], stop),
        ]

    def _language_span(self, total: int) -> tuple[int, int]:
        """First step of the language phase and end of a run of `total` steps."""
        steps = self.model.config.num_language_steps
        start = self.model.config.language_start_step
        if self.model.in_language_phase:
            start = int(self.model.language_phase_start)
        if start is None and total - steps < MIN_RGB_STEPS:
            raise GenLangSplatError(
                f"A run of {total} steps leaves {max(total - steps, 0)} for the RGB phase, because the language phase "
                f"takes {steps}. Raise --max-num-iterations, lower --pipeline.model.language-steps, or set "
                "--pipeline.model.language-start-step."
            )
        start = total - steps if start is None else start
        if start >= total:
            raise GenLangSplatError(
                f"The language phase would begin at step {start}, after the end of a run of {total} steps. Raise "
                "--max-num-iterations or lower --pipeline.model.language-start-step."
            )
        return start, min(start + steps, total)

    def begin_language_phase(self, step: int) -> None:
        """Freezes the scene and lifts the latents of all training views onto it."""
        self.model.enter_language_phase(step)
        solver = self.model.config.language_solver
        if solver == "lift" or self.model.config.language_warm_start:
            lifted, memory = self.lift()
            # The optimization is about to change what the memory decodes; it is fitted at the end.
            self.model.set_latents(lifted, memory if solver == "lift" else None)
            seen = float(lifted.seen.any(dim=-1).float().mean())
            remembered = f" The scene's memory has {len(memory)} keys." if solver == "lift" else ""
            CONSOLE.print(f"Lifted latents onto {seen:.0%} of {self.model.num_points:,} Gaussians.{remembered}")

    def lift(self, left_out: Collection[str] = ()) -> tuple[LiftedLatents, SceneMemory]:
        """Lifts the latents of all training views, all levels at once, and fits the memory that decodes them.

        Args:
            left_out: File names of training views that have no say.
        """
        views, settings = self.training_views(), self.model.config.lift_settings
        views = replace(views, views=[view for view in views.views if view.name not in left_out])
        count, levels, latent_dim = self.model.latents.shape
        lifted = lift_latents(
            views, count, levels, latent_dim, settings, self.device, views.small(), with_consensus=True
        )
        return lifted, self.fit_memory(views, lifted)

    def remember(self) -> SceneMemory:
        """Fits a memory to the latents that the Gaussians have."""
        views = replace(self.training_views().small(), cache=None)
        regions = collect_regions(views, self.model.latents.detach(), None)
        return fit_memory(regions, self.model.field_head.autoencoder.identity.encoder)

    def fit_memory(self, views: RegionViews, lifted: LiftedLatents) -> SceneMemory:
        """Fits the scene's memory to what the training views said while they were lifted."""
        assert lifted.region_consensus is not None, "lifting was asked for the consensus"
        names = [view.name for view in views.views]
        regions = MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights, names)
        return fit_memory(regions, self.model.field_head.autoencoder.identity.encoder)

    @torch.no_grad()
    def training_views(self) -> RegionViews:
        """The training views as lifting takes them; features that the store does not have are extracted."""
        model, data = self.model, self.datamanager
        views = []
        for index in range(len(data.train_dataset)):
            name, key = data.view_name("train", index), data.language_key("train", index)
            views.append(PosedView(name, key, model.view(data.camera("train", index))))
        return RegionViews(
            gaussians=model.geometry(),
            rasterize_mode=model.config.rasterize_mode,
            views=views,
            store=data.store,
            autoencoder=model.field_head.autoencoder,
            cache=WeightCache(int(model.config.language_cache_gb * 1e9)),
        )

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One training step of the phase the model is in."""
        camera, batch = self.datamanager.next_train(step)
        if self.model.latents.requires_grad and self.model.in_language_phase:
            batch["language"] = self.datamanager.language_features("train", batch["image_idx"])
        outputs = self.model(camera)
        metrics = self.model.get_metrics_dict(outputs, batch)
        return outputs, self.model.get_loss_dict(outputs, batch, metrics), metrics

    def get_average_eval_image_metrics(
        self, step: int | None = None, output_path: Path | None = None, get_std: bool = False
    ) -> dict[str, float]:
        """The RGB metrics of the held-out views, and the language metrics once there is a language phase."""
        metrics = super().get_average_eval_image_metrics(step, output_path, get_std)
        if self.model.in_language_phase:
            self.eval()
            language = language_metrics(LanguageScene(self.model, self.datamanager))
            metrics |= language.means
            folder = output_path or self.config.run_dir
            # Training asks with a step, ns-eval without.
            if step is None and folder is not None:
                details = {
                    **metrics,
                    "views": language.fidelity,
                    "queries": [vars(query) for query in language.queries],
                }
                with atomic_path(folder / "language_metrics.json") as path:
                    path.write_text(json.dumps(details, indent=1, default=float))
                CONSOLE.print(f"Every answer of the held-out views is in {escape(str(folder))}/language_metrics.json.")
            self.train()
        return metrics
