"""`gen-langsplat`: what one does with a run, without a window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.utils.command_line import run_commands
from genlangsplat_ns.utils.ray_settings import RayLiftSettings

if TYPE_CHECKING:
    from genlangsplat_ns.language.query import TextQuery
    from genlangsplat_ns.language.selection import SelectionSettings
    from genlangsplat_ns.scene.chosen_gaussians import Choice


@dataclass(kw_only=True)
class Asking:
    """What is asked of which run."""

    load_config: Path
    """The run's config.yml."""
    text: tuple[str, ...]
    """What to look for; several texts, also with semicolons between them, are answered one by one."""
    negatives: str = "object; things; stuff; texture"
    """What the texts compete with, separated by semicolons."""
    level: Literal["mean", "auto", "subpart", "part", "whole"] = "mean"
    """Mask level: their mean, the one with the highest peak (auto), or a named one."""
    threshold: float = 0.8
    """Pixels and Gaussians with more relevancy than this are selected."""
    temperature: float = 10.0
    """Sharpness of the relevancy; LERF's is 10."""
    prompts: bool = False
    """Put every text into sentences such as "a photo of ..." and average them, which helps CLIP."""
    decoder: Literal["memory", "autoencoder"] | None = None
    """What decodes latents: the scene's memory, or the autoencoder alone (the paper); None for what the run says."""

    def query_for(self, texts: tuple[str, ...]) -> TextQuery:
        """Makes the query of some texts."""
        from genlangsplat_ns.language.query import TextQuery, split_texts

        return TextQuery(
            split_texts(";".join(texts)),
            split_texts(self.negatives),
            self.level,
            self.threshold,
            self.temperature,
            self.prompts,
        )


@dataclass(kw_only=True)
class Selecting(Asking):
    """Which Gaussians the answer is made of."""

    min_opacity: float = 0.05
    """Gaussians fainter than this are not selected."""
    clean_up: bool = True
    """Leave out small groups of selected Gaussians that lie apart."""
    radius: float | None = None
    """For the clean-up: Gaussians within this distance hang together; None derives it from how far apart they lie."""
    smallest_group: float = 0.1
    """For the clean-up: groups with less than this share of the largest group's Gaussians are left out."""

    @property
    def selection(self) -> SelectionSettings:
        """Opacity floor and clean-up."""
        from genlangsplat_ns.language.selection import SelectionSettings

        return SelectionSettings(self.min_opacity, self.clean_up, self.radius, self.smallest_group)


@dataclass(kw_only=True)
class Query(Selecting):
    """Ask a trained run for texts: overlays and masks of its views or a video, and query.json with scores and peaks."""

    output_dir: Path
    """Folder for the pictures and query.json."""
    split: Literal["eval", "train", "all"] = "all"
    """Which views to ask: eval are the held-out ones."""
    camera_path: Path | None = None
    """Ask along a camera path that the viewer saved as JSON, instead of in the views."""
    interpolate: int | None = None
    """Ask from so many cameras between each view of the split and the next one."""
    mode: Literal["gaussian", "rendered"] = "gaussian"
    """gaussian: score every Gaussian once; views are quick. rendered: decode and score every pixel (the paper)."""
    video: bool = False
    """Write one video per text (needs ffmpeg) instead of pictures."""

    def __call__(self) -> None:
        """Runs the command."""
        query = self.query_for(self.text)
        selection = self.selection
        from genlangsplat_ns.scene.cameras import CameraChoice
        from genlangsplat_ns.scene.query_views import query_views

        cameras = CameraChoice(self.split, self.camera_path, self.interpolate)
        query_views(self.load_config, query, cameras, self.mode, selection, self.video, self.output_dir, self.decoder)


@dataclass(kw_only=True)
class Choosing(Selecting):
    """Gaussians that are chosen by texts to be written or left out."""

    without: tuple[str, ...] = ()
    """Gaussians that answer these texts are not chosen, whatever else they answer."""
    grow: float = 0.0
    """Choose Gaussians within this distance of chosen ones, too."""
    overwrite: bool = False
    """Replace what is there already."""

    @property
    def choice(self) -> Choice | None:
        """What to choose; None without a text."""
        if not self.text:
            return None
        query = self.query_for(self.text)
        without = self.query_for(self.without) if self.without else None
        from genlangsplat_ns.scene.chosen_gaussians import Choice

        return Choice(query, without, self.selection, self.grow)


@dataclass(kw_only=True)
class Export(Choosing):
    """Write the Gaussians that answer a text, or all others, as a PLY file that any splat program opens."""

    text: tuple[str, ...] = ()
    """What to export; Gaussians that answer any of several texts. Without a text the whole scene is written."""
    output: Path
    """The .ply file."""
    rest: bool = False
    """Write all Gaussians but the chosen ones."""
    latents: Literal["nowhere", "file", "ply"] = "nowhere"
    """Language latents: nowhere, in a .safetensors file beside the PLY (file), or as its properties (ply)."""

    def __call__(self) -> None:
        """Runs the command."""
        choice = self.choice
        from genlangsplat_ns.scene.export import export_run

        export_run(self.load_config, choice, self.rest, self.latents, self.output, self.overwrite, self.decoder)


@dataclass(kw_only=True)
class Remove(Choosing):
    """Write a new run without the Gaussians that answer a text; ns-render and ns-viewer open it like any other."""

    output_dir: Path = Path("outputs")
    """Folder of runs that the new one goes to."""

    def __call__(self) -> None:
        """Runs the command."""
        choice = self.choice
        if choice is None:
            raise GenLangSplatError("Found no text; say with --text what to remove.")
        from genlangsplat_ns.scene.removal import remove_from_run

        remove_from_run(self.load_config, choice, self.output_dir, self.overwrite, self.decoder)


@dataclass(kw_only=True)
class Describe:
    """Say what a scene consists of: groups of Gaussians of like meaning, each with the best texts of a vocabulary."""

    load_config: Path
    """The run's config.yml."""
    vocabulary: Path | None = None
    """File with one text per line; without one some 120 common things."""
    level: Literal["subpart", "part", "whole"] = "whole"
    """Mask level whose latents are grouped."""
    groups: int = 12
    """How many groups to look for."""
    texts: int = 3
    """How many texts each group gets."""
    negatives: str = "object; things; stuff; texture"
    """What the texts compete with, separated by semicolons."""
    output: Path | None = None
    """JSON file for the groups."""
    overwrite: bool = False
    """Replace the file if it is there already."""
    decoder: Literal["memory", "autoencoder"] | None = None
    """What decodes latents: the scene's memory, or the autoencoder alone (the paper); None for what the run says."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.language.query import TextQuery, split_texts
        from genlangsplat_ns.language.vocabulary import read_vocabulary
        from genlangsplat_ns.scene.description import describe_run

        query = TextQuery(read_vocabulary(self.vocabulary), split_texts(self.negatives))
        describe_run(
            *(self.load_config, query, self.level, self.groups, self.texts, self.output, self.overwrite, self.decoder)
        )


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
        from genlangsplat_ns.scene.compression import compress_run

        compress_run(self.load_config, self.to, self.text)


@dataclass
class Demo:
    """Build the gallery scene, train both phases, ask texts, and write pictures and a report to look at."""

    output_dir: Path = Path("demo-output")
    """Folder for the scene, the run, the pictures and the report."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.demo.run import print_results
        from genlangsplat_ns.demo.training import run_gallery_demo

        print_results(run_gallery_demo(self.output_dir))


@dataclass(kw_only=True)
class Extract(FeatureSettings):
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
        from genlangsplat_ns.scene.extraction import extract_scene, open_views

        extract_scene(open_views(self.data, self.data_format, self.max_image_side, self), self.limit, self.preview)


@dataclass(kw_only=True)
class Convert(FeatureSettings):
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
        from genlangsplat_ns.scene.extraction import export_langsplat, import_langsplat, open_views

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
        from genlangsplat_ns.scene.lifting import lift_run

        lift_run(self.load_config, self.robust_rounds, self.ray if self.engine == "ray" else None)


@dataclass
class Evaluate:
    """Score a trained run against labels (LERF-OVS, 3D-OVS, folders of masks): tables, evaluation.json, report.html."""

    load_config: Path
    """The run's config.yml."""
    output_dir: Path = Path("evaluation")
    """Folder for evaluation.json and report.html."""
    labels: Path | None = None
    """Folder of the labels; None for labels, label or segmentations beside the data."""
    protocol: tuple[str, ...] = ()
    """Rules to score by, the one that decides first; none for those usual with the layout of the labels."""
    holdout_labeled: bool = False
    """Lift the latents anew without the labeled views, in memory only; the colors have seen them."""
    mode: Literal["rendered", "gaussian"] = "rendered"
    """rendered decodes every pixel, as papers do; gaussian scores Gaussians and draws that, faster without a GPU."""
    decoder: Literal["memory", "autoencoder", "both"] | None = None
    """What decodes latents: the scene's memory, the autoencoder alone (the paper), or first one, then the other, side
    by side; None for what the run says."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.scene.evaluation import evaluate_run

        evaluate_run(
            self.load_config,
            self.output_dir,
            self.labels,
            self.protocol,
            self.holdout_labeled,
            self.mode,
            self.decoder,
        )


COMMANDS: dict[str, Callable[..., Any]] = {
    "query": Query,
    "export": Export,
    "remove": Remove,
    "describe": Describe,
    "evaluate": Evaluate,
    "extract": Extract,
    "convert": Convert,
    "lift": Lift,
    "compress": Compress,
    "demo": Demo,
}


def main() -> None:
    """The console script."""
    run_commands(lambda: COMMANDS, "3D Gaussian scenes that understand words.")
