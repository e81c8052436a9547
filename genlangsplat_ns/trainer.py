"""The trainer: checks a run before it starts, saves checkpoints atomically, and reports errors without a traceback."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.decorators import check_main_thread
from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.pipeline import GenLangSplatPipelineConfig
from genlangsplat_ns.rasterization.library import load_kernels
from genlangsplat_ns.scene_io.checkpoints import check_checkpoint, latest_checkpoint
from genlangsplat_ns.utils.console import CONSOLE, show


@dataclass
class GenLangSplatTrainerConfig(TrainerConfig):
    """nerfstudio's settings of a run; `max_num_iterations` includes both phases and the steps before a resume."""

    _target: type = field(default_factory=lambda: GenLangSplatTrainer)
    """target class to instantiate"""
    pipeline: GenLangSplatPipelineConfig = field(default_factory=GenLangSplatPipelineConfig)
    """Views, Gaussians and latents."""

    def get_checkpoint_dir(self) -> Path:
        """Returns the folder of the run's checkpoints, after checking that the newest one is complete.

        Every nerfstudio command that starts or loads a run calls this first. So this method also makes the process show
        the log and report a `GenLangSplatError` without a traceback.
        """
        show()
        report_errors_plainly()
        folder = super().get_checkpoint_dir()
        newest = latest_checkpoint(folder)
        if newest is not None:
            check_checkpoint(newest)
        self.pipeline.run_dir = folder.parent
        return folder


class GenLangSplatTrainer(Trainer):
    """nerfstudio's trainer with checks before the training starts."""

    config: GenLangSplatTrainerConfig

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
            super().setup(test_mode)
            # The values chosen for `auto` are now known; storing them makes the run portable to other machines.
            self.config.save_config()
        except GenLangSplatError:
            _remove_unstarted_run(self.base_dir)
            raise

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Saves a checkpoint atomically: if the process is killed while saving, the previous checkpoint remains."""
        folder = self.checkpoint_dir
        # The temporary folder is outside, because nerfstudio parses every name in the folder as a checkpoint.
        self.checkpoint_dir = folder.with_name(f".{folder.name}-unfinished")
        try:
            super().save_checkpoint(step)
            written = f"step-{step:09d}.ckpt"
            folder.mkdir(parents=True, exist_ok=True)
            os.replace(self.checkpoint_dir / written, folder / written)
        finally:
            shutil.rmtree(self.checkpoint_dir, ignore_errors=True)
            self.checkpoint_dir = folder
        if self.config.save_only_latest_checkpoint:
            for path in folder.glob("*.ckpt"):
                if path.name != written:
                    path.unlink()


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
    return resumed


def report_errors_plainly() -> None:
    """Makes this process print only the message of an uncaught `GenLangSplatError`.

    nerfstudio's commands do not catch exceptions, and a traceback would hide the message.
    """
    previous = sys.excepthook
    if getattr(previous, "reports_plainly", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, GenLangSplatError):
            CONSOLE.print(f"[bold red]Error:[/bold red] {escape(str(error))}")
        else:
            previous(kind, error, trace)

    hook.reports_plainly = True  # type: ignore[attr-defined]
    sys.excepthook = hook
