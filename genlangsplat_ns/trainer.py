"""The training loop's edges: one clear message for a user's mistake, and a length that a resume keeps."""

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
    """nerfstudio's settings of a run; `max_num_iterations` counts the whole run, both phases, resumed or not."""

    _target: type = field(default_factory=lambda: GenLangSplatTrainer)
    """target class to instantiate"""
    pipeline: GenLangSplatPipelineConfig = field(default_factory=GenLangSplatPipelineConfig)
    """Views, Gaussians and latents."""

    def get_checkpoint_dir(self) -> Path:
        """Returns the folder of the run's checkpoints, after checking that the newest one is whole.

        Every nerfstudio command that starts or loads a run asks for this folder first. So this is where the process is
        told to show the log and to report a `GenLangSplatError` without a traceback.
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
    """nerfstudio's trainer with checks before the work begins."""

    config: GenLangSplatTrainerConfig

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Checks what can be checked early, then sets up as nerfstudio does.

        Raises:
            GenLangSplatError: Several processes were asked for, or the checkpoint to resume from is not usable.
        """
        if self.world_size > 1:
            raise GenLangSplatError(
                f"Found {self.world_size} training processes, expected 1: densification differs between processes, so "
                "splats train on one device. Leave out --machine.num-devices."
            )
        try:
            if self.device == "cpu":
                # Kernels that are not built show here and not after the features are extracted. Loading them also
                # teaches torch's threads to wait asleep, which the extraction gains from.
                load_kernels()
            resumed = _resumed_checkpoint(self.config)
            if resumed is not None and self.config.pipeline.init_from is not None:
                # The checkpoint has all that came from there, in its own frame, and the source need not exist any more.
                self.config.pipeline.init_from, self.config.pipeline.init_frame = resumed, "auto"
            super().setup(test_mode)
            # What auto stood for is settled now, and the run shall keep it when it is opened on another machine.
            self.config.save_config()
        except GenLangSplatError:
            _forget_run(self.base_dir)
            raise

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Saves as nerfstudio does, but a checkpoint comes into its folder whole: a kill leaves the one before it."""
        folder = self.checkpoint_dir
        # Not inside the folder, where nerfstudio takes every name for that of a checkpoint.
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


def _forget_run(folder: Path) -> None:
    """Removes the folder of a run that never began; ns-train writes its config.yml before anything is checked."""
    if [path.name for path in folder.glob("*")] == ["config.yml"]:
        (folder / "config.yml").unlink()
        for parent in (folder, *folder.parents[:3]):
            if any(parent.iterdir()):
                break
            parent.rmdir()


def _resumed_checkpoint(config: TrainerConfig) -> Path | None:
    """The checkpoint that a resume asks for, after checking that it is there and whole; None without a resume."""
    if config.load_checkpoint is not None:
        resumed = config.load_checkpoint
    elif config.load_dir is not None:
        newest = latest_checkpoint(config.load_dir)
        if newest is None:
            raise GenLangSplatError(
                f"{config.load_dir} holds no step-*.ckpt. Give --load-dir the folder nerfstudio_models of a run."
            )
        resumed = newest if config.load_step is None else config.load_dir / f"step-{config.load_step:09d}.ckpt"
    else:
        return None
    check_checkpoint(resumed)
    return resumed


def report_errors_plainly() -> None:
    """Makes this process end with the message alone when a `GenLangSplatError` reaches the top.

    nerfstudio's commands do not catch exceptions, and a page of traceback hides the sentence that helps.
    """
    usual = sys.excepthook
    if getattr(usual, "reports_plainly", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, GenLangSplatError):
            CONSOLE.print(f"[bold red]Error:[/bold red] {escape(str(error))}")
        else:
            usual(kind, error, trace)

    hook.reports_plainly = True  # type: ignore[attr-defined]
    sys.excepthook = hook
