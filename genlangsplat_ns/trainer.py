"""The trainer: checks a run before it starts, saves checkpoints atomically, and reports errors without a traceback."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
import yaml
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.misc import step_check

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.pipeline import GenLangSplatPipeline, GenLangSplatPipelineConfig
from genlangsplat_ns.rasterization.library import load_kernels
from genlangsplat_ns.scene.divergence import DivergenceCheck
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.run_report import report_run
from genlangsplat_ns.scene_io.checkpoints import check_checkpoint, checkpoint_step, latest_checkpoint, load_checkpoint
from genlangsplat_ns.scene_io.run_costs import RunCosts, RunPart
from genlangsplat_ns.scene_io.stored_paths import exists, find_moved, nerfstudio_command, opened_config
from genlangsplat_ns.scene_io.trust import warn_of_distrust
from genlangsplat_ns.utils.command_line import report_errors_plainly
from genlangsplat_ns.utils.console import show
from genlangsplat_ns.utils.files import atomic_path, write_state
from genlangsplat_ns.utils.loss_curve import LossCurve
from genlangsplat_ns.utils.stopwatch import Stopwatch, stage
from genlangsplat_ns.utils.stored_settings import StoredSettings

LOGGER = logging.getLogger(__name__)

RGB_PHASE, LANGUAGE_STEPS = "RGB phase", "language steps"
"""Stages of the stopwatch in which steps are trained."""


@dataclass
class GenLangSplatTrainerConfig(StoredSettings, TrainerConfig):
    """nerfstudio's settings of a run; `max_num_iterations` includes both phases and the steps before a resume."""

    _target: type = field(default_factory=lambda: GenLangSplatTrainer)
    """target class to instantiate"""
    pipeline: GenLangSplatPipelineConfig = field(default_factory=GenLangSplatPipelineConfig)
    """Views, Gaussians and latents."""
    traceback: bool = False
    """Show the traceback of errors instead of one sentence."""
    run_folder: tyro.conf.Suppress[Path | None] = None
    """Folder of an opened run, which may have been moved since its training; set when a run is opened."""

    def get_base_dir(self) -> Path:
        """Returns the folder of the run: where it lies if it was opened, otherwise where the settings put it."""
        return super().get_base_dir() if self.run_folder is None else self.run_folder

    def get_checkpoint_dir(self) -> Path:
        """Returns the folder of the run's checkpoints, after checking that the newest one is complete.

        Every nerfstudio command that starts or loads a run calls this first. So this method also makes the process show
        the log and report errors without a traceback, and finds the run of a command that opens one.

        Raises:
            GenLangSplatError: The newest checkpoint is incomplete, or an opened run has none.
        """
        show()
        report_errors_plainly(self.traceback)
        config_path = opened_config()
        if config_path is not None and self.run_folder is None:
            # ns-viewer shows cameras and photographs if there are any.
            warn_of_distrust(config_path)
            self.open_at(config_path, photographs=nerfstudio_command() != "viewer")
        folder = super().get_checkpoint_dir()
        newest = latest_checkpoint(folder)
        if newest is not None:
            check_checkpoint(newest)
        if self.run_folder is not None:
            if newest is None:
                raise GenLangSplatError(
                    f"{folder} has no step-*.ckpt. Expected the checkpoints of the run beside its config.yml. Copy "
                    "that folder too, or train until the first checkpoint is saved."
                )
            # A resumed run stores the step that it was resumed from, and other files may lie beside the checkpoints.
            # nerfstudio leaves it to the version of torch whether a checkpoint may run code.
            load_checkpoint(newest)
            self.load_step = checkpoint_step(newest)
        self.pipeline.run_dir = self.get_base_dir()
        return folder

    def save_config(self) -> None:
        """Writes the config.yml of the run atomically."""
        with atomic_path(self.get_base_dir() / "config.yml") as temporary:
            temporary.write_text(yaml.dump(self), encoding="utf-8")

    def open_at(self, config_path: Path, data: Path | None = None, photographs: bool = True) -> None:
        """Prepares the settings of a finished run, read from `config_path`, for opening it where it lies now.

        `data` is the folder of the data, None for the stored path or where it leads to now; `photographs` states
        whether the data must be there.

        Raises:
            GenLangSplatError: There are several folders to which the stored path of the data may lead.
        """
        written_to, self.run_folder = super().get_base_dir(), config_path.resolve().parent
        manager = self.pipeline.datamanager
        stored = Path(manager.data or manager.dataparser.data)
        # `ns-render dataset --data` replaces one of the two.
        replaced = self.data is not None and self.data != manager.data
        if data is not None and not exists(data):
            raise GenLangSplatError(f"The data folder {data} does not exist. Give the folder of the scene with --data.")
        if data is None:
            data = stored if replaced else find_moved(stored, self.run_folder, written_to)
        if data != stored:
            LOGGER.info("The data of the run, %s, are read from %s.", stored, data)
        self.data = manager.data = manager.dataparser.data = data
        manager.needs_photographs = photographs


class GenLangSplatTrainer(Trainer):
    """nerfstudio's trainer with checks before the training starts, and a report at its end."""

    config: GenLangSplatTrainerConfig
    pipeline: GenLangSplatPipeline

    def __init__(self, config: GenLangSplatTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        # In another program, for example a notebook, the process did other things before.
        self.stopwatch = Stopwatch.of_process() if nerfstudio_command() == "train" else Stopwatch()
        self.costs = RunCosts()
        self._end_step = 0
        self._losses: dict[str, LossCurve] = {}
        self._divergence = DivergenceCheck()
        super().__init__(config, local_rank, world_size)

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Checks the settings and the checkpoint to resume from, then sets up like nerfstudio.

        Raises:
            GenLangSplatError: There are several processes, or the checkpoint to resume from is not usable.
        """
        if self.world_size > 1:
            raise GenLangSplatError(
                f"Found {self.world_size} training processes, expected 1: densification differs between processes, so "
                "splats train on one device. Omit --machine.num-devices."
            )
        try:
            if self.device == "cpu":
                # Missing kernels are reported here instead of after the extraction. Loading them also makes torch's
                # waiting threads sleep, which speeds up the extraction.
                load_kernels()
            resumed = _resumed_checkpoint(self.config)
            if resumed is not None and self.config.pipeline.init_from is not None:
                # The checkpoint contains the Gaussians of the source in its own frame; the source may be gone.
                self.config.pipeline.init_from, self.config.pipeline.init_frame = resumed, "auto"
            with self.stopwatch.running(), stage("setup"), _log_errors_of_threads():
                super().setup(test_mode)
            if resumed is not None:
                self.costs = RunCosts.resume(resumed.parent.parent, self._start_step - 1)
            self.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], self.write_report))
            # The values chosen for `auto` are now known; storing them makes the run portable to other machines.
            self.config.save_config()
        except GenLangSplatError:
            _remove_unstarted_run(self.base_dir)
            raise

    def train(self) -> None:
        """Trains like nerfstudio, and measures what the stages cost."""
        _write_transforms_atomically(self.pipeline.datamanager.train_dataparser_outputs)
        try:
            with self.stopwatch.running(), stage(self._training_stage), _log_errors_of_threads():
                super().train()
        except OSError as error:
            # For example the disk filled up while nerfstudio wrote its log.
            name = "a file of the run" if error.filename is None else os.fsdecode(error.filename)
            raise GenLangSplatError(
                f"The training in {self.base_dir} stopped at step {self._end_step}: {name} cannot be written or read "
                f"({error.strerror or error}). Its checkpoints are intact. Free disk space or fix the permissions, "
                f"then resume with --load-dir {self.checkpoint_dir}."
            ) from error
        if nerfstudio_command() == "train":
            # Otherwise Python searches all objects for cycles before it ends, which takes more than a second.
            gc.freeze()

    def train_iteration(self, step: int) -> Any:
        """Trains one step like nerfstudio."""
        self.stopwatch.switch(self._training_stage)
        results = super().train_iteration(step)
        self._end_step = step + 1
        stage_name = self._training_stage
        losses = {"loss": results[0], **results[1]} if results[0].requires_grad else results[1]
        self._divergence.add(step, stage_name, losses, self.pipeline.model.gauss_params)
        if stage_name == RGB_PHASE or self.pipeline.model.latents.requires_grad:
            # The step that lifts has no loss.
            self._losses.setdefault(stage_name, LossCurve()).add(step, results[0])
        return results

    def eval_iteration(self, step: int) -> None:
        """Evaluates like nerfstudio in the steps of its settings."""
        settings = self.config
        periods = settings.steps_per_eval_batch, settings.steps_per_eval_image, settings.steps_per_eval_all_images
        with stage("evaluation") if any(step_check(step, every) for every in periods) else nullcontext():
            super().eval_iteration(step)

    @property
    def _training_stage(self) -> str:
        without_rgb = self.config.pipeline.init_from is not None
        return LANGUAGE_STEPS if without_rgb or self.pipeline.model.in_language_phase else RGB_PHASE

    def write_report(self, step: int) -> None:
        """Writes the report of the finished run. The training is saved by now, so a failure is only a warning."""
        with stage("report"):
            try:
                scene = LanguageScene(self.pipeline.model, self.pipeline.datamanager)
                # A resumed run names its own checkpoint there.
                geometry = self.config.pipeline.init_from if self.costs.resumed_from is None else None
                curves = {name: curve.points for name, curve in self._losses.items()}
                report_run(scene, self.base_dir, self.costs, self._part, curves, geometry)
            except REPORT_ERRORS as error:
                LOGGER.warning(
                    "The run is complete and saved, but its report could not be written (%s: %s). Please report this "
                    "error.",
                    type(error).__name__,
                    error,
                )

    def _part(self) -> RunPart:
        """What this process trained until now, and its costs."""
        return RunPart(self._start_step, max(self._start_step, self._end_step), self.stopwatch.costs)

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Saves a checkpoint atomically: if the process is killed while saving, the previous checkpoint remains.

        The costs of the run so far are saved too.
        """
        with stage("checkpoints"):
            self._save_checkpoint(step)
        self.costs.save(self.base_dir, self._part(), checkpoint=step)

    def _save_checkpoint(self, step: int) -> None:
        folder = self.checkpoint_dir
        path = folder / f"step-{step:09d}.ckpt"
        optimizers = self.optimizers
        state = {
            "step": step,
            "pipeline": self.pipeline.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.optimizers.items()},
            "schedulers": {name: scheduler.state_dict() for name, scheduler in optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
        }
        try:
            # nerfstudio parses every name in the folder as a checkpoint, so the temporary file lies elsewhere.
            with atomic_path(path, within=self.base_dir) as temporary:
                write_state(temporary, state)
        except OSError as error:
            raise GenLangSplatError(
                f"The checkpoint {path} cannot be written ({error.strerror or error}). Earlier ones are intact. Free "
                f"disk space or fix the permissions, then resume with --load-dir {folder}."
            ) from error
        if self.config.save_only_latest_checkpoint:
            for other in folder.glob("*.ckpt"):
                if other != path:
                    other.unlink()


REPORT_ERRORS = (
    GenLangSplatError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
)
"""Errors of a report, which must not end a finished training."""


@contextmanager
def _log_errors_of_threads() -> Iterator[None]:
    """Logs errors of threads in one line: the thread that writes nerfstudio's log hands its own to the training."""
    before = threading.excepthook
    threading.excepthook = lambda failed: LOGGER.info("A thread stopped: %s", failed.exc_value)
    try:
        yield
    finally:
        threading.excepthook = before


def _write_transforms_atomically(outputs: Any) -> None:
    """Lets nerfstudio replace the file of a run's frame as a whole, so that a kill leaves no half of it."""
    write = outputs.save_dataparser_transform

    def write_atomically(path: Path) -> None:
        with atomic_path(path) as temporary:
            write(temporary)

    outputs.save_dataparser_transform = write_atomically


def _remove_unstarted_run(folder: Path) -> None:
    """Removes the folder of a run that did not start; ns-train writes config.yml before any check."""
    if [path.name for path in folder.glob("*")] == ["config.yml"]:
        (folder / "config.yml").unlink()
        for parent in (folder, *folder.parents[:3]):
            if any(parent.iterdir()):
                break
            parent.rmdir()


def _resumed_checkpoint(config: TrainerConfig) -> Path | None:
    """Returns the checkpoint to resume from, after checking that it is complete; None without a resume."""
    if config.load_checkpoint is not None:
        resumed = config.load_checkpoint
    elif config.load_dir is not None:
        newest = latest_checkpoint(config.load_dir)
        if newest is None:
            raise GenLangSplatError(
                f"{config.load_dir} has no step-*.ckpt. Give the folder nerfstudio_models of a run with --load-dir."
            )
        resumed = newest if config.load_step is None else config.load_dir / f"step-{config.load_step:09d}.ckpt"
    else:
        return None
    check_checkpoint(resumed)
    load_checkpoint(resumed)
    return resumed
