"""The pipeline with its two phases: RGB training, then lifting or optimization of the language latents."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from genlangsplat_ns.datamanager import READING, GenLangSplatDataManager, GenLangSplatDataManagerConfig
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.language.named_autoencoders import AUTO, scene_autoencoder
from genlangsplat_ns.language.projection import is_projection
from genlangsplat_ns.model import GenLangSplatModel, GenLangSplatModelConfig
from genlangsplat_ns.scene.init_from import GeometrySource, open_geometry
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.lifting import describe_lift, fit_scene_memory, lift_scene
from genlangsplat_ns.scene.metrics import MASKED_NOTE, language_metrics
from genlangsplat_ns.scene.start_points import RandomBox, check_start_in_view
from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.stopwatch import stage
from genlangsplat_ns.utils.stored_settings import StoredSettings
from genlangsplat_ns.viewer.training_views import TrainingViews

LOGGER = logging.getLogger(__name__)

MIN_RGB_STEPS = 10
"""Minimum number of steps in the RGB phase; fewer are treated as a mistake."""


@dataclass
class GenLangSplatPipelineConfig(StoredSettings, VanillaPipelineConfig):
    """Settings of data and model."""

    _target: type = field(default_factory=lambda: GenLangSplatPipeline)
    """target class to instantiate"""
    datamanager: GenLangSplatDataManagerConfig = field(default_factory=GenLangSplatDataManagerConfig)
    """Views and language features."""
    model: GenLangSplatModelConfig = field(default_factory=GenLangSplatModelConfig)
    """Gaussians and latents."""
    init_from: Path | None = None
    """Start the language phase from existing Gaussians: a splatfacto or own run, a checkpoint, or a file of splats."""
    init_frame: Literal["auto", "nerfstudio", "data"] = "auto"
    """Frame of a file of splats: nerfstudio (as from ns-export), data (original poses), or auto (by photographs)."""
    run_dir: tyro.conf.Suppress[Path | None] = None
    """Folder of an opened run, in which ns-eval writes its details; set when a run is opened."""


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
        # VanillaPipeline creates data and model together. Here the features are extracted in between, and errors in the
        # initial Gaussians are reported before that.
        super(VanillaPipeline, self).__init__()
        self.config, self.test_mode, self.world_size = config, test_mode, world_size
        # Encoder, masks and autoencoder are chosen here. The config stores the values chosen for `auto`, because they
        # depend on the machine. A mismatch is reported before hours of extraction.
        extractor = FeatureExtractor(config.datamanager, device)
        config.datamanager.encoder, config.datamanager.masks = extractor.encoder_name, extractor.mask_name
        autoencoder = scene_autoencoder(config.model.autoencoder, extractor.encoder_identity, extractor.embedding_dim)
        if test_mode == "val" and config.model.autoencoder == AUTO and is_projection(autoencoder.identity):
            LOGGER.warning(
                "No pre-trained autoencoder fits the encoder %s; using a fixed random projection of its embeddings to "
                "%d dimensions. With the scene memory, answers are as good as with a trained autoencoder. Give a "
                "pre-trained one with --pipeline.model.autoencoder.",
                autoencoder.identity.encoder,
                autoencoder.identity.latent_dim,
            )
        source: GeometrySource | None = None
        if config.init_from is not None and test_mode == "val":
            source = open_geometry(config.init_from)
            source.take_settings(config.model)
        with stage(READING):
            self.datamanager = config.datamanager.setup(
                device=device,
                test_mode=test_mode,
                world_size=world_size,
                local_rank=local_rank,
                extractor=extractor,
                run_dir=config.run_dir,
            )
        gaussians = None if source is None else source.place(self.datamanager, config.init_frame)
        # A run that is opened gets its Gaussians from the checkpoint.
        points = self.datamanager.train_dataparser_outputs.metadata if test_mode == "val" else {}
        box: RandomBox | None = None
        seeds = (points["points3D_xyz"], points["points3D_rgb"]) if "points3D_xyz" in points else None
        if test_mode == "val":
            cameras = self.datamanager.train_dataset.cameras
            box = RandomBox.around(cameras, config.model.random_scale)
            if gaussians is None:
                positions = None if seeds is None or config.model.random_init else seeds[0]
                check_start_in_view(positions, box, cameras, self.datamanager.frame)
            self.datamanager.prepare_language()
        self._model = config.model.setup(
            scene_box=self.datamanager.train_dataset.scene_box,
            num_train_data=len(self.datamanager.train_dataset),
            metadata=self.datamanager.train_dataset.metadata,
            device=device,
            grad_scaler=grad_scaler,
            seed_points=seeds,
            random_points=None if box is None else box.sample,
            gaussians=gaussians,
            autoencoder=autoencoder,
            load_text_encoder=extractor.load_text_encoder,
        )
        if source is not None:
            if source.pose_adjustment is not None:
                self.model.camera_optimizer.pose_adjustment.data.copy_(source.pose_adjustment)
            LOGGER.info(
                "Loaded %s Gaussians with harmonics of degree %d from %s; next is the language phase.",
                f"{self.model.num_points:,}",
                config.model.sh_degree,
                source.path,
            )
        self.model.to(device)
        views = range(len(self.datamanager.train_dataset))
        names = [self.datamanager.view_name("train", index) for index in views]
        self.model.language.views = TrainingViews(names, self.datamanager.train_dataset.cameras)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Adds the switch to the language phase before all other callbacks of a step, and the end of the run.

        Raises:
            GenLangSplatError: The run is too short for both phases, or a resumed run is already complete.
        """
        trainer = training_callback_attributes.trainer
        assert trainer is not None, "nerfstudio's trainer passes itself"
        done = trainer._start_step
        if self.model.config.language_solver == "adam":
            # The optimization changes the latents, so the memory is fitted at the end.
            self.model.set_memory(None)
        if self.config.init_from is not None:
            trainer.config.max_num_iterations = self.model.config.num_language_steps
            if done > 0 and not self.model.in_language_phase:
                raise GenLangSplatError(
                    f"The checkpoint to resume from is from step {done - 1} of the RGB phase, but --pipeline.init-from "
                    "starts with the language phase. To continue that run, omit --pipeline.init-from; to start from "
                    "its Gaussians, give the checkpoint there and omit --load-dir and --load-checkpoint."
                )
        start, end = self._language_span(trainer.config.max_num_iterations)
        if done >= end:
            raise GenLangSplatError(
                f"This run is complete: its checkpoint is from step {done - 1}, and the run ends after {end} steps. "
                "Raise --max-num-iterations to continue."
            )

        def switch(step: int) -> None:
            if step >= start and not self.model.in_language_phase:
                if step > 0:
                    # If the process is killed while lifting, only the lifting has to be repeated.
                    trainer.save_checkpoint(step - 1)
                self.begin_language_phase(step)

        def stop(step: int) -> None:
            # nerfstudio runs max_num_iterations more steps after a resume.
            if step + 1 >= end:
                trainer.stop_training = True
                if self.model.config.language_solver == "adam":
                    self.model.set_memory(fit_scene_memory(self.model, self.datamanager))

        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [
            TrainingCallback([before], switch),
            *super().get_training_callbacks(training_callback_attributes),
            TrainingCallback([after], stop),
        ]

    def _language_span(self, total: int) -> tuple[int, int]:
        """Returns the first step of the language phase and the end of a run of `total` steps."""
        steps = self.model.config.num_language_steps
        start = self.model.config.language_start_step
        if self.model.in_language_phase:
            start = int(self.model.language_phase_start)
        if start is None and total - steps < MIN_RGB_STEPS:
            raise GenLangSplatError(
                f"A run of {total} steps leaves {max(total - steps, 0)} for the RGB phase, because the language phase "
                f"takes {steps}; expected at least {MIN_RGB_STEPS}. Raise --max-num-iterations, lower "
                "--pipeline.model.language-steps, or set --pipeline.model.language-start-step."
            )
        start = total - steps if start is None else start
        if start >= total:
            raise GenLangSplatError(
                f"The language phase would start at step {start}, after the end of a run of {total} steps. Raise "
                "--max-num-iterations or lower --pipeline.model.language-start-step."
            )
        return start, min(start + steps, total)

    def begin_language_phase(self, step: int) -> None:
        """Freezes the geometry, and lifts the latents if the solver or the warm start needs it."""
        self.model.enter_language_phase(step)
        solver = self.model.config.language_solver
        if solver == "lift" or self.model.config.language_warm_start:
            lifted, memory = lift_scene(self.model, self.datamanager)
            # An optimization changes the latents, so its memory is fitted at the end.
            self.model.set_latents(lifted, memory if solver == "lift" else None)
            LOGGER.info("%s", describe_lift(lifted, memory if solver == "lift" else None))

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Renders a training view and computes the loss of the current phase."""
        camera, batch = self.datamanager.next_train(step)
        if self.model.latents.requires_grad and self.model.in_language_phase:
            batch["language"] = self.datamanager.language_features("train", batch["image_idx"])
        outputs = self.model(camera)
        metrics = self.model.get_metrics_dict(outputs, batch)
        return outputs, self.model.get_loss_dict(outputs, batch, metrics), metrics

    def get_average_eval_image_metrics(
        self, step: int | None = None, output_path: Path | None = None, get_std: bool = False
    ) -> dict[str, float]:
        """Computes the RGB metrics of the held-out views, and after the RGB phase also the language metrics."""
        if len(self.datamanager.eval_dataset) == 0:
            LOGGER.warning(
                "No view is held out (%d views train), so there is nothing to measure. By default, views are held out "
                "of 10 or more photographs. `gen-langsplat evaluate` scores labeled training views.",
                len(self.datamanager.train_dataset),
            )
            return {"held_out_views": 0.0}
        metrics = super().get_average_eval_image_metrics(step, output_path, get_std)
        # The deviation of a single view is not a number, which JSON cannot hold.
        metrics = {name: value for name, value in metrics.items() if not math.isnan(value)}
        note: dict[str, Any] = {}
        if self.datamanager.has_masked_pixels("eval"):
            note = {"note": MASKED_NOTE}
            if step is None:
                LOGGER.info("Metrics of the held-out views: %s", MASKED_NOTE)
        if self.model.in_language_phase:
            self.eval()
            language = language_metrics(LanguageScene(self.model, self.datamanager))
            metrics |= language.means
            folder = output_path or self.config.run_dir
            # Training passes a step, ns-eval does not.
            if step is None and folder is not None:
                details = {
                    **metrics,
                    **note,
                    "views": language.fidelity,
                    "queries": [vars(query) for query in language.queries],
                }
                with atomic_path(folder / "language_metrics.json") as path:
                    path.write_text(json.dumps(details, indent=1, default=float))
                LOGGER.info("All answers of the held-out views are in %s/language_metrics.json.", folder)
            self.train()
        return metrics
