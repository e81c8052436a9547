"""`gen-langsplat`: what one does with a run, without a window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from genlangsplat_ns.commands import run_commands
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import FrontEndSettings
from genlangsplat_ns.ray_settings import RayLiftSettings


@dataclass
class Query:
    """Ask a trained run for texts: overlay and mask pictures of its views, and query.json with scores and peaks."""

    load_config: Path
    """The run's config.yml."""
    text: tuple[str, ...]
    """What to look for; several texts are answered one by one."""
    output_dir: Path
    """Folder for the pictures and query.json."""
    split: Literal["eval", "train", "all"] = "all"
    """Which views to ask: eval are the held-out ones."""
    mode: Literal["rendered"] = "rendered"
    """rendered: composite latents, decode and score every pixel."""
    negatives: tuple[str, ...] = ("object", "things", "stuff", "texture")
    """What the texts compete with."""
    level: Literal["mean", "auto", "subpart", "part", "whole"] = "mean"
    """Mask level: their mean, the one with the highest peak (auto), or a named one."""
    threshold: float = 0.8
    """Pixels with more relevancy than this are selected."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.language.query import TextQuery
        from genlangsplat_ns.query_views import query_views

        query = TextQuery(self.text, self.negatives, self.level, self.threshold)
        query_views(self.load_config, query, self.split, self.mode, self.output_dir)


@dataclass
class Compress:
    """Write a run anew with its latents in fewer bytes, and print sizes and what is lost; the run itself stays."""

    load_config: Path
    """The run's config.yml."""
    to: Literal["fp16", "int8"] = "int8"
    """How latents are stored: two bytes a component or one. The new run's folder ends in this word."""
    text: tuple[str, ...] = ()
    """Texts whose masks are compared over the held-out views; without any, those of the run, or some general ones."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.compress_run import compress_run

        compress_run(self.load_config, self.to, self.text)


@dataclass
class Demo:
    """Build the gallery scene, train both phases, ask texts, and write pictures and a report to look at."""

    output_dir: Path = Path("demo-output")
    """Folder for the scene, the run, the pictures and the report."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.demo_run import run_gallery_demo

        run_gallery_demo(self.output_dir)


@dataclass(kw_only=True)
class Extract(FrontEndSettings):
    """Find and embed the regions of a scene's views and store them, as training would; goes on where it was stopped."""

    data: Path
    """Folder of the scene."""
    data_format: str = "nerfstudio"
    """Format of the data by nerfstudio's name, for example nerfstudio or colmap."""
    max_image_side: int | None = None
    """All views are scaled by one factor, so that the longest side fits; gen-langsplat-lite trains at 480."""
    limit: int | None = None
    """Only the first so many views, for a first look."""
    preview: bool = False
    """Also paint contact sheets: every view with its regions at the three levels."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.extraction import extract_scene, open_views

        extract_scene(open_views(self.data, self.data_format, self.max_image_side, self), self.limit, self.preview)


@dataclass(kw_only=True)
class Convert(FrontEndSettings):
    """Take over LangSplat's language_features (_f.npy, _s.npy) for training, or write a scene's features like them."""

    data: Path
    """Folder of the scene."""
    from_langsplat: Path | None = None
    """LangSplat's folder language_features to read; train with --pipeline.datamanager.masks langsplat then."""
    to_langsplat: Path | None = None
    """Folder to write such files to."""
    overwrite: bool = False
    """Whether --to-langsplat may replace files that are there already."""
    data_format: str = "nerfstudio"
    """Format of the data by nerfstudio's name, for example nerfstudio or colmap."""
    max_image_side: int | None = None
    """All views are scaled by one factor, so that the longest side fits; train with the same."""

    def __call__(self) -> None:
        """Runs the command."""
        if (self.from_langsplat is None) == (self.to_langsplat is None):
            raise GenLangSplatError("Give either --from-langsplat FOLDER or --to-langsplat FOLDER.")
        from genlangsplat_ns.extraction import export_langsplat, import_langsplat, open_views

        if self.from_langsplat is not None:
            self.masks = "langsplat"
        views = open_views(self.data, self.data_format, self.max_image_side, self)
        if self.from_langsplat is not None:
            import_langsplat(views, self.from_langsplat)
        elif self.to_langsplat is not None:
            export_langsplat(views, self.to_langsplat, self.overwrite)


@dataclass(kw_only=True)
class Lift:
    """Lift the latents of a trained run anew, here or on a Ray cluster, into one more checkpoint of the run."""

    load_config: Path
    """The run's config.yml."""
    engine: Literal["local", "ray"] = "local"
    """local goes through the views in this process; ray shares them out over a cluster."""
    robust_rounds: int | None = None
    """Rounds in which regions that contradict all other views lose weight; None for what the run was trained with."""
    ray: RayLiftSettings = field(default_factory=RayLiftSettings)
    """How the engine ray spreads the views."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.lift_run import lift_run

        lift_run(self.load_config, self.robust_rounds, self.ray if self.engine == "ray" else None)


COMMANDS: dict[str, Callable[..., Any]] = {
    "query": Query,
    "extract": Extract,
    "convert": Convert,
    "lift": Lift,
    "compress": Compress,
    "demo": Demo,
}


def main() -> None:
    """The console script."""
    run_commands(lambda: COMMANDS, "3D Gaussian scenes that understand words.")
