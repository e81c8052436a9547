"""The commands `extract`, `check`, `train`, `sweep` and `cross`: from frames to autoencoders."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.ray import RaySettings
from pretrain.distributed import join_workers
from pretrain.extract import Engine, extract_embeddings, ingest_store
from pretrain.fidelity import Figures, PcaBaseline, fidelity_rows, measure_fidelity
from pretrain.frame_worker import FrameModels
from pretrain.report import save_measured, show_fidelity, show_table
from pretrain.scannet import ScanNetSource
from pretrain.scene_files import RowSample, SceneFile, read_folders, read_rows
from pretrain.settings import TrainingSettings
from pretrain.sources import FrameSource, ImageFolderSource
from pretrain.stream import EmbeddingStream
from pretrain.training import TrainingResult, train_autoencoder

HELD_OUT_SHARE = 10
"""By default, one of this many scenes is held out."""

SAMPLE_ROWS = 20_000
"""Size of the random samples on which autoencoders are measured, and to which principal components are fitted."""


@dataclass(kw_only=True)
class Extract(FeatureSettings):
    """Extract the region embeddings of many frames for training, one file per scene; continues a stopped run."""

    embeddings: Path
    """Folder of the embeddings; it may contain several sources."""
    scannet: Path | None = None
    """Folder of ScanNet: .sens files or exported scenes. The ten scenes of the 3D benchmarks are excluded."""
    images: Path | None = None
    """Any folder tree of images; its top-level folders are the scenes."""
    store: tuple[Path, ...] = ()
    """Existing feature stores (SCENE/language_features/...) whose embeddings are copied."""
    scannet_split: Literal["train", "held_out", "all"] = "train"
    """Scenes of ScanNet to use; held_out are those of the 3D benchmarks."""
    scannet_scenes: Path | None = None
    """File with the names of the ScanNet scenes to use, one per line."""
    stride: int = 20
    """Use every n-th frame of a ScanNet scene."""
    max_side: int | None = 1600
    """Maximum long side of a frame in pixels, by default that of scenes; larger frames are downscaled."""
    limit: int | None = None
    """Maximum number of frames per source."""
    engine: Engine = "local"
    """local, or ray for several workers and machines."""
    ray: RaySettings = field(default_factory=RaySettings)
    """How the engine ray distributes the frames."""
    retry_failed: bool = False
    """Process frames again that failed in an earlier run."""

    def __call__(self) -> None:
        if self.scannet is None and self.images is None and not self.store:
            raise GenLangSplatError(
                "No source was given. Give --scannet FOLDER, --images FOLDER or --store FOLDER (or several of them)."
            )
        sources: list[FrameSource] = []
        if self.scannet is not None:
            split, scenes = self.scannet_split, self.scannet_scenes
            sources.append(ScanNetSource(self.scannet, self.stride, split, scenes, self.max_side))
        if self.images is not None:
            sources.append(ImageFolderSource(self.images, self.max_side))
        for source in sources:
            models = FrameModels.from_settings(self)
            extract_embeddings(source, self.embeddings, models, self.engine, self.ray, self.limit, self.retry_failed)
        for folder in self.store:
            ingest_store(folder, self.embeddings, self.retry_failed)


@dataclass(frozen=True)
class Check:
    """Verify all files of embeddings: their hashes, and that no embedding is zero or not finite."""

    embeddings: Annotated[Path, tyro.conf.Positional]
    """Folder of embeddings."""

    def __call__(self) -> None:
        files = read_folders((self.embeddings,))
        rows = sum(file.rows for file in files)
        frames = {(file.source, key) for file in files for key in file.frames}
        # Frames that failed once may be in a later file.
        failed = {(file.source, key) for file in files for key in file.failed} - frames
        CONSOLE.print(
            f"{len(files)} files are intact: {rows} embeddings of {len(frames)} frames. {len(failed)} frames failed."
        )


@dataclass(frozen=True)
class Split:
    """The files of the scenes to train on, and those of the held-out scenes."""

    trained: list[SceneFile]
    held_out: list[SceneFile]

    @classmethod
    def of_folders(cls, folders: Sequence[Path], held_out: Sequence[str] = (), verify: bool = True) -> Split:
        """Splits the scenes of some folders; without `held_out`, every tenth scene is held out.

        Raises:
            GenLangSplatError: If a folder cannot be read, a held-out scene does not exist, or too few scenes are left.
        """
        files = read_folders(folders, verify)
        scenes = sorted({file.scene for file in files})
        if len(scenes) < 2 and not held_out:
            raise GenLangSplatError(
                f"Found {len(scenes)} scene, expected at least two, because fidelity is measured on held-out scenes. "
                "Extract more scenes."
            )
        unknown = sorted(set(held_out) - set(scenes))
        if unknown:
            raise GenLangSplatError(
                f"No file has the scenes {', '.join(unknown)}. Choose among {', '.join(scenes[:20])}."
            )
        chosen = set(held_out) or set(scenes[::HELD_OUT_SHARE])
        if chosen == set(scenes):
            raise GenLangSplatError("All scenes are held out, none is left for training. Hold out fewer.")
        return cls(
            [file for file in files if file.scene not in chosen], [file for file in files if file.scene in chosen]
        )

    def held_out_rows(self) -> RowSample:
        """Reads a sample of the held-out embeddings."""
        return read_rows(self.held_out, SAMPLE_ROWS, seed=1)

    def pca_baseline(self) -> PcaBaseline:
        """Fits principal components to a sample of the embeddings to train on."""
        return PcaBaseline(read_rows(self.trained, SAMPLE_ROWS, seed=2).embeddings)


@dataclass(frozen=True, kw_only=True)
class TrainingCommand:
    """Flags of the commands that train on embeddings."""

    embeddings: tuple[Path, ...]
    """Folders of embeddings, all of one encoder."""
    architecture: str = "residual"
    """mlp, residual, langsplat (its layer widths) or linear."""
    training: TrainingSettings = TrainingSettings(  # noqa: RUF009 - frozen
        steps=2000, learning_rate=1e-3, batch_size=512, mix=0.6, mix_noise=0.01, average_decay=0.995
    )
    """Settings of each training."""

    def fit(
        self, split: Split, latent_dim: int, held_out: Tensor | None = None, output: Path | None = None
    ) -> TrainingResult:
        """Trains an autoencoder; if it has an output file, it has a checkpoint beside it."""
        kind, workers = split.trained[0].identity, join_workers(self.training.device)
        source = EmbeddingStream(split.trained, self.training.seed, workers.rank, workers.world_size)
        identity = AutoencoderIdentity(
            name=output.stem if output else "measured",
            encoder=kind.encoder_identity,
            embedding_dim=kind.embedding_dim,
            latent_dim=latent_dim,
            architecture=self.architecture,
            training_data=f"{source.rows} regions of {len({file.scene for file in split.trained})} scenes",
            command="python -m pretrain " + shlex.join(sys.argv[1:]),
        )
        folder = output.with_suffix(".training") if output else None
        return train_autoencoder(source, identity, self.training, held_out=held_out, checkpoint_dir=folder)


@dataclass(frozen=True, kw_only=True)
class Train(TrainingCommand):
    """Train an autoencoder on embeddings and measure it on held-out scenes; resumes a stopped training."""

    output: Path
    """The .safetensors file to write; the checkpoint is in the folder of the same name with suffix .training."""
    held_out: tuple[str, ...] = ()
    """Scenes to hold out; by default every tenth."""
    latent_dim: int = 16
    """Width D of the latents."""
    training: TrainingSettings = TrainingSettings(  # noqa: RUF009 - frozen
        learning_rate=1e-3, batch_size=512, mix=0.6, mix_noise=0.01, average_decay=0.999, patience=8
    )
    """Training settings."""

    def __call__(self) -> None:
        workers = join_workers(self.training.device)
        split = Split.of_folders(self.embeddings, self.held_out, verify=workers.is_first)
        held_out = split.held_out_rows()
        result = self.fit(split, self.latent_dim, held_out.embeddings, self.output)
        if workers.is_first:
            save_measured(self.output, result, fidelity_rows(result.autoencoder, held_out, split.pca_baseline()))


@dataclass(frozen=True, kw_only=True)
class Sweep(TrainingCommand):
    """Train one autoencoder per latent width, and write a table and a plot of their fidelity."""

    output_dir: Path
    """Output folder of sweep.json and sweep.png."""
    held_out: tuple[str, ...] = ()
    """Scenes to hold out; by default every tenth."""
    latent_dims: tuple[int, ...] = (3, 8, 12, 16, 24, 32, 64)
    """Latent widths D; the default includes LangSplat's 3 and the paper's 16."""

    def __call__(self) -> None:
        split = Split.of_folders(self.embeddings, self.held_out)
        held_out, pca_baseline = split.held_out_rows().embeddings, split.pca_baseline()
        rows: dict[str, Figures] = {}
        for latent_dim in self.latent_dims:
            autoencoder = self.fit(split, latent_dim, held_out).autoencoder
            rows[str(latent_dim)] = measure_fidelity(autoencoder, held_out, pca_baseline)
        with atomic_path(self.output_dir / "sweep.json") as path:
            path.write_text(json.dumps(rows, indent=1))
        _draw_sweep(rows, self.output_dir / "sweep.png")
        show_fidelity("Fidelity on held-out embeddings by latent width", "D", rows)
        CONSOLE.print(f"Wrote sweep.json and sweep.png to {escape(str(self.output_dir))}.")


def _draw_sweep(rows: dict[str, Figures], path: Path) -> None:
    """Plots the cosines of autoencoder and PCA over the width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    widths = list(map(int, rows))
    lines = {"cosine": "-o", "centered cosine": "--o", "PCA cosine": "-s", "PCA centered": "--s"}
    for name, style in lines.items():
        axes.plot(widths, [row[name] for row in rows.values()], style, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, list(rows))
    axes.set(xlabel="latent width D", ylabel="mean over held-out embeddings")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


@dataclass(frozen=True, kw_only=True)
class Cross(TrainingCommand):
    """Train an autoencoder on each folder of embeddings and measure it on all of them, to test generalization."""

    output: Path
    """The .json file for the table."""
    latent_dim: int = 16
    """Width D of the latents."""

    def __call__(self) -> None:
        """Training does not use the held-out embeddings, not even to select the best step."""
        names = [folder.name for folder in self.embeddings]
        if len(set(names)) < max(2, len(names)):
            raise GenLangSplatError(
                f"A table across domains needs two or more folders with different names, found {', '.join(names)}. "
                "Give more."
            )
        read_folders(self.embeddings, verify=False)
        splits = {folder.name: Split.of_folders((folder,)) for folder in self.embeddings}
        held_out = {name: split.held_out_rows().embeddings for name, split in splits.items()}
        figures: dict[str, dict[str, Figures]] = {}
        for name, split in splits.items():
            autoencoder, pca_baseline = self.fit(split, self.latent_dim).autoencoder, split.pca_baseline()
            figures[name] = {
                other: measure_fidelity(autoencoder, rows, pca_baseline) for other, rows in held_out.items()
            }
        with atomic_path(self.output) as path:
            path.write_text(json.dumps(figures, indent=1))
        table = {
            name: {f"{other}, {kind}": cell[kind] for other, cell in row.items() for kind in ("cosine", "PCA cosine")}
            for name, row in figures.items()
        }
        show_table("Fidelity on held-out embeddings of each domain", "trained on", table)
        CONSOLE.print(f"Wrote {escape(str(self.output))}.")
