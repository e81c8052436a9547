"""Training and evaluation of one scene, each in its own process; a second call continues where the first stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.checkpoints import checkpoint_step, latest_checkpoint
from paper.scenes import MAX_SIDE, Scene
from paper.state import CheckState, SceneState

BENCHMARKS = Path(__file__).parents[1]

METHOD, RUN = "gen-langsplat", "paper-check"

PATIENCE = 30
"""Seconds that a process gets to end by itself."""

SMALL = (
    *("--steps-per-save", "20"),
    *("--pipeline.datamanager.sam.points-per-side", "2"),
    *("--pipeline.model.warmup-length", "20", "--pipeline.model.refine-every", "20"),
)
"""Settings of a rehearsal. All others are those of the real check."""


@dataclass(frozen=True)
class Work:
    """How the scenes are trained, and where the results go."""

    output: Path
    steps: int
    """Steps of the RGB phase."""
    autoencoder: Path | None = None
    """The pre-trained autoencoder; None for what the method takes by itself."""
    small: bool = False
    """Whether this is a rehearsal."""

    def run_folder(self, scene: Scene) -> Path:
        """Folder of the training."""
        return self.output / "runs" / scene.name / METHOD / RUN

    def evaluation_folder(self, scene: Scene) -> Path:
        """Folder of the evaluation."""
        return self.output / "evaluations" / scene.name

    def training_words(self, scene: Scene) -> list[str]:
        """Returns the arguments of ns-train."""
        words = [METHOD, "--data", str(scene.folder.absolute()), "--output-dir", str(self.output / "runs")]
        words += ["--experiment-name", scene.name, "--timestamp", RUN]
        # The last step lifts the latents.
        words += ["--max-num-iterations", str(self.steps + 1), "--vis", "tensorboard"]
        # All views are training views, so evaluating some of them during the training tells nothing.
        words += ["--steps-per-eval-image", "0", "--steps-per-eval-all-images", "0"]
        words += ["--pipeline.datamanager.masks", "sam", "--pipeline.datamanager.encoder", "openclip"]
        words += ["--pipeline.datamanager.max-image-side", str(MAX_SIDE)]
        if self.autoencoder is not None:
            words += ["--pipeline.model.autoencoder", str(self.autoencoder.absolute())]
        words += SMALL if self.small else ()
        return [*words, "colmap", "--eval-mode", "all", "--downscale-factor", "1"]

    def evaluation_words(self, scene: Scene) -> list[str]:
        """Returns the arguments of gen-langsplat."""
        config = self.run_folder(scene) / "config.yml"
        words = ["evaluate", "--load-config", str(config), "--output-dir", str(self.evaluation_folder(scene))]
        return [*words, "--labels", str(scene.labels.absolute()), "--decoder", "both"]

    def finish(self, scene: Scene, check: CheckState) -> None:
        """Does what is not yet done of a scene, and stores after each part that it is.

        Raises:
            GenLangSplatError: A program failed, or the scene was begun with other settings.
        """
        state, run = check.scene(scene.name, self.training_words(scene)), self.run_folder(scene)
        if state.progress != "waiting" and not (run / "config.yml").is_file():
            state.progress = "waiting"
        if state.progress == "done" and not (self.evaluation_folder(scene) / "evaluation.json").is_file():
            state.progress = "trained"
        newest = latest_checkpoint(run / "nerfstudio_models")
        if state.progress == "waiting" and newest is not None and checkpoint_step(newest) >= self.steps:
            # The check was stopped before it noticed that the training is complete.
            state.progress = "trained"
        if state.progress == "waiting":
            words = state.words
            if newest is not None:
                # Before the words of the data format, which end the command.
                place = words.index("colmap")
                words = [*words[:place], "--load-dir", str(newest.parent), *words[place:]]
            self._run("ns-train", words, scene, state, check, "training")
            state.progress = "trained"
            check.save()
        if state.progress == "trained":
            self._run("gen-langsplat", self.evaluation_words(scene), scene, state, check, "evaluation")
            state.progress = "done"
        state.problem = ""
        check.save()

    def results(self, scene: Scene) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Returns what the evaluation and the training of a finished scene reported.

        A training that was stopped after its last checkpoint has no report.
        """
        evaluation, report = self.evaluation_folder(scene) / "evaluation.json", self.run_folder(scene) / "report.json"
        written = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else None
        return json.loads(evaluation.read_text(encoding="utf-8")), written

    def _run(
        self, program: str, words: list[str], scene: Scene, state: SceneState, check: CheckState, part: str
    ) -> None:
        log = self.output / "logs" / f"{scene.name}-{part}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        try:
            run_program(program, words, log, check)
        finally:
            state.spend(part, time.monotonic() - start)
            check.process = None
            check.save()


def run_program(program: str, words: list[str], log: Path, check: CheckState) -> None:
    """Runs a program, with its output in a log. If this process is interrupted, it stops the program first.

    Raises:
        GenLangSplatError: The program failed; with what it said last.
    """
    paths = [str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "400"}
    command = [sys.executable, "-W", "ignore", "-m", "paper.command", program, *words]
    with log.open("ab") as stream:
        stream.write(f"\n# {program} {' '.join(words)}\n".encode())
        stream.flush()
        begin = stream.tell()
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            check.process = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
            check.save()
            code = process.wait()
        except BaseException:
            stop_process(process)
            raise
    if code != 0:
        raise GenLangSplatError(f"{last_words(log, begin)} ({program} ended with the status {code}; log: {log})")


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started, and kills them if they do not end."""
    # Not the signal of Ctrl-C, which programs of background shells ignore.
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(PATIENCE)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            process.wait()
            return


def last_words(log: Path, begin: int = 0) -> str:
    """Returns the error in a log after a position, or its last line that says something."""
    content = log.read_bytes()[begin:].decode(errors="replace")
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error:")]
    return (errors or lines or ["It printed nothing."])[-1].removeprefix("Error:").strip()[:400]
