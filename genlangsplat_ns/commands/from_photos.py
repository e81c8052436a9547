"""`gen-langsplat from-photos`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.photographs.settings import PhotographSettings
from genlangsplat_ns.utils.console import CONSOLE

if TYPE_CHECKING:
    from genlangsplat_ns.photographs.outcome import Outcome
    from genlangsplat_ns.photographs.training import SceneTraining

SHOWN = 30
"""Largest number of photographs without a camera in the table; all are in outcome.json."""


@dataclass(frozen=True, kw_only=True)
class FromPhotos:
    """Compute the cameras of photographs or of a video, and go on to training and answers if asked to.

    Called again, it continues where it stopped. A folder that has cameras already is only trained.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER_OR_VIDEO")]
    """Folder of photographs, also in subfolders, or a video."""
    output_dir: Path | None = None
    """Folder for the scene; None for the source's name with -scene beside it."""
    photographs: Annotated[PhotographSettings, tyro.conf.arg(name="")] = field(default_factory=PhotographSettings)
    """How photographs become a scene."""
    train: bool = False
    """Go on with the training."""
    method: Literal["auto", "gen-langsplat", "gen-langsplat-lite"] = "auto"
    """Method of the training; auto is gen-langsplat with CUDA, else gen-langsplat-lite."""
    download_weights: bool = False
    """Let the training download missing weights of SAM and CLIP; for other settings, change the printed command."""
    text: tuple[str, ...] = ()
    """Texts to answer after the training, into the folder answers of the scene; semicolons separate several."""

    def __call__(self) -> None:
        from genlangsplat_ns.errors import GenLangSplatError
        from genlangsplat_ns.language.settings import split_texts
        from genlangsplat_ns.photographs.lock import only_process
        from genlangsplat_ns.views.model_folders import has_cameras

        if self.text and not (self.train and split_texts(*self.text)):
            raise GenLangSplatError("Texts are answered after a training. Give --train, and texts that are not blank.")
        posed = has_cameras(self.source)
        # Cameras that are there already are not written, only a training is.
        with only_process(self._output()) if self.train or not posed else nullcontext():
            training = self._posed() if posed else self._scene()
            if self.train and training.finished:
                CONSOLE.print(f"The training in {escape(str(training.run))} is complete.")
            elif self.train:
                training.train()
            self._ask(training)

    def _posed(self) -> SceneTraining:
        """Returns the training of a folder that has cameras."""
        CONSOLE.print(
            f"{escape(str(self.source))} has cameras already, which are used. To compute them anew, give the folder of "
            "the photographs alone."
        )
        return self._training(self.source, "existing")

    def _scene(self) -> SceneTraining:
        """Makes a scene of photographs or a video, prints what became of them, and returns its training."""
        from genlangsplat_ns.photographs.scene import make_scene

        output = self._output()
        outcome, name = make_scene(self.source, output, self.photographs)
        print_outcome(outcome)
        CONSOLE.print(f"The scene is in {escape(str(output))}.")
        return self._training(output, name)

    def _output(self) -> Path:
        source = self.source.resolve()
        name = source.name if source.is_dir() else source.stem
        return self.output_dir or source.with_name(f"{name}-scene")

    def _training(self, scene: Path, name: str) -> SceneTraining:
        from genlangsplat_ns.photographs.training import SceneTraining

        return SceneTraining(scene, self._method(), name, self._output(), self.download_weights)

    def _method(self) -> str:
        if self.method != "auto":
            return self.method
        import torch

        return "gen-langsplat" if torch.cuda.is_available() else "gen-langsplat-lite"

    def _ask(self, training: SceneTraining) -> None:
        """Answers the texts, or prints the commands that come next."""
        answers = training.output / "answers"
        if self.text:
            from genlangsplat_ns.commands.query import Query

            Query(load_config=training.config, text=self.text, output_dir=answers)()
            return
        if not self.train:
            CONSOLE.print("Train with:")
            print_command("ns-train", *training.words())
        CONSOLE.print("Then ask:" if not self.train else "Ask with:")
        query = ["--load-config", str(training.config), "--text", "your things; here", "--output-dir", str(answers)]
        print_command("gen-langsplat", "query", *query)
        print_command("ns-viewer", "--load-config", str(training.config))


def print_command(*words: str) -> None:
    """Prints a command on one line, so that it can be copied."""
    CONSOLE.print(f"    {escape(join(words))}", soft_wrap=True)


def print_outcome(outcome: Outcome) -> None:
    """Prints which photographs have a camera, and why others have none."""
    if outcome.unplaced:
        table = Table("without a camera", "why")
        for item in outcome.unplaced[:SHOWN]:
            table.add_row(escape(item.name), escape(item.reason))
        if len(outcome.unplaced) > SHOWN:
            table.add_row("...", f"{len(outcome.unplaced) - SHOWN} more, in colmap/outcome.json")
        CONSOLE.print(table)
    table = Table("photographs", "with a camera", "reprojection error", "points", "points per photograph")
    color = "green" if outcome.placed == outcome.photographs else "yellow"
    table.add_row(
        str(outcome.photographs),
        f"[{color}]{outcome.placed}[/{color}]",
        f"{outcome.error:.2f} pixels",
        f"{outcome.points:,}",
        f"{outcome.points_per_photograph:.0f}",
    )
    CONSOLE.print(table)
    if outcome.others:
        sizes = ", ".join(f"{other.photographs} photographs with {other.example}" for other in outcome.others)
        scenes = "They seem to show several scenes, or parts that do not overlap. " if outcome.several_scenes else ""
        CONSOLE.print(
            f"[yellow]Cameras that are not connected with the scene are not used: {escape(sizes)}. {scenes}Connect "
            "them with photographs in between, or put each scene into a folder of its own.[/yellow]"
        )
