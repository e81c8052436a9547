"""The training of a scene made from photographs: its command, and the run that it leaves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from genlangsplat_ns.errors import GenLangSplatError

RUNS = "runs"
"""Folder of the runs in the output."""

FINISHED = "report.json"
"""File that a training writes into the folder of its run at the end."""


@dataclass(frozen=True)
class SceneTraining:
    """The training of a scene, whose run lies beside it."""

    scene: Path
    method: str
    name: str
    """Name of the run; another reconstruction has another one."""
    output: Path
    """Folder of the runs and answers."""
    download_weights: bool = False
    """Whether the training downloads missing weights."""

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.output / RUNS / self.method / self.name

    @property
    def config(self) -> Path:
        """The run's config.yml, with which commands open it."""
        return self.run / "config.yml"

    @property
    def finished(self) -> bool:
        """Whether the training is complete."""
        return (self.run / FINISHED).is_file()

    def words(self) -> list[str]:
        """Returns the arguments of ns-train; a run that was interrupted after a checkpoint continues."""
        words = [self.method, "--data", str(self.scene), "--output-dir", str(self.output), "--experiment-name", RUNS]
        words += ["--timestamp", self.name]
        if self.download_weights:
            words += ["--pipeline.datamanager.download-weights", "True"]
        checkpoints = self.run / "nerfstudio_models"
        return [*words, "--load-dir", str(checkpoints)] if any(checkpoints.glob("step-*.ckpt")) else words

    def train(self) -> None:
        """Trains in a process of its own.

        Raises:
            GenLangSplatError: The training failed.
        """
        # By default, gen-langsplat keeps its viewer open at the end.
        words = [*self.words(), "--viewer.quit-on-train-completion", "True"]
        done = subprocess.run([sys.executable, "-m", "nerfstudio.scripts.train", *words])
        if done.returncode != 0:
            raise GenLangSplatError(
                f"The training ended with the status {done.returncode}; its message is above. Cameras and checkpoints "
                "are kept, and the same command continues: run it again."
            )
