"""The commands `extract`, `check`, `train`, `sweep` and `cross`: from frames to autoencoders."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.ray import RaySettings
from pretrain.cross import Domain, evaluate_across
from pretrain.distributed import workers_from_environment
from pretrain.extract import Engine, extract_shards
from pretrain.fidelity import PcaBaseline, fidelity_rows
from pretrain.images import ImageFolderSource
from pretrain.row_subset import read_rows
from pretrain.scannet import ScanNetSource
from pretrain.settings import TrainingSettings
from pretrain.shard_writer import FrameRows, ShardWriter, ingest, quarantine_damaged
from pretrain.shards import ShardFolder, ShardIdentity
from pretrain.stored import StoredEmbeddings
from pretrain.stream import EmbeddingStream
from pretrain.sweep import SWEEP_WIDTHS, run_sweep
from pretrain.tables import show_fidelity
from pretrain.train import train_autoencoder

HELD_OUT_SHARE = 0.1
"""Fraction of the scenes that is held out by default."""

SHORT_TRAINING = TrainingSettings(
    steps=2000, learning_rate=1e-3, batch_size=512, mix=0.6, mix_noise=0.01, average_decay=0.995
)
"""Default settings of commands that train many autoencoders."""


@dataclass(kw_only=True)
class Extract(FeatureSettings):
    """Extract the region embeddings of many frames into shards for training; continues a stopped run."""

    shards: Path
    """Folder of the shards; it may contain several sources."""
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
    max_side: int | None = 720
    """Maximum long side of a frame in pixels; larger frames are downscaled."""
    limit: int | None = None
    """Maximum number of frames per source."""
    engine: Engine = "local"
    """local, or ray for several workers and machines."""
    ray: RaySettings = field(default_factory=RaySettings)
    """How the engine ray distributes the frames."""
    retry_failed: bool = False
    """Process frames again that failed in an earlier run."""

    def __call__(self) -> None:
        """Runs the command."""
        if self.scannet is None and self.images is None and not self.store:
            raise GenLangSplatError("No source was given. Give --scannet, --images or --store.")
        if self.scannet is not None:
            scannet = ScanNetSource(
                self.scannet, self.stride, self.scannet_split, scenes=self.scannet_scenes, max_side=self.max_side
            )
            self._extract(scannet)
        if self.images is not None:
            self._extract(ImageFolderSource(self.images, self.max_side))
        for folder in self.store:
            ingest_store(folder, self.shards)

    def _extract(self, source: ScanNetSource | ImageFolderSource) -> None:
        extract_shards(source, self.shards, self, self.engine, self.ray, self.limit, self.retry_failed)


def ingest_store(folder: Path, shards: Path) -> None:
    """Copies the embeddings of a feature store into shards, and warns about damaged views."""
    stored = StoredEmbeddings(folder)
    identity = ShardIdentity.from_store(stored.identity)

    def frames() -> Iterator[FrameRows]:
        for view in stored:
            yield view.key, stored.scene, view.embeddings.float(), view.levels

    with ShardWriter.open(shards, identity, source=stored.name) as writer:
        ingest(writer, frames())
    for key, reason in stored.damaged.items():
        CONSOLE.print(f"[yellow]{escape(key)} {escape(reason)}. It was skipped.")


@dataclass(frozen=True)
class Split:
    """Scenes for training and held-out scenes."""

    trained: frozenset[str]
    held_out: frozenset[str]

    @classmethod
    def from_folders(cls, folders: Sequence[Path], held_out: Sequence[str]) -> Split:
        """Splits the scenes of shards; without `held_out`, every tenth scene is held out."""
        scenes = sorted({scene.name for folder in folders for scene in ShardFolder.read(folder).index.scenes})
        if len(scenes) < 2 and not held_out:
            raise GenLangSplatError(
                f"Found {len(scenes)} scene in the shards, expected at least two, because fidelity is measured on "
                "held-out scenes. Extract more scenes, or give one with --held-out."
            )
        unknown = sorted(set(held_out) - set(scenes))
        if unknown:
            raise GenLangSplatError(
                f"No shard has the scenes {', '.join(unknown)}. Choose among {', '.join(scenes[:20])}."
            )
        chosen = set(held_out) or set(scenes[:: max(2, round(1 / HELD_OUT_SHARE))])
        if chosen == set(scenes):
            raise GenLangSplatError("All scenes are held out, none is left for training. Hold out fewer.")
        return cls(frozenset(scenes) - chosen, frozenset(chosen))


@dataclass(frozen=True)
class Check:
    """Verify the checksums and embeddings of shards; with --quarantine, remove damaged ones."""

    shards: Annotated[Path, tyro.conf.Positional]
    """Folder of shards."""
    quarantine: bool = False
    """Remove damaged shards from the index; the next extraction processes their frames again."""

    def __call__(self) -> None:
        """Runs the command."""
        if self.quarantine:
            for file, problem in quarantine_damaged(self.shards).items():
                CONSOLE.print(f"[yellow]Removed {escape(file)}: it {escape(problem)}.")
        folder = ShardFolder.read(self.shards)
        folder.verify()
        index = folder.index
        CONSOLE.print(
            f"{len(index.shards)} shards are intact: {index.rows} embeddings of {len(index.frames)} frames. "
            f"{len(index.failed)} frames failed, {len(index.quarantined)} shards are quarantined."
        )


@dataclass(frozen=True)
class Train:
    """Train an autoencoder on shards and measure it on held-out scenes; resumes a stopped training."""

    shards: tuple[Path, ...]
    """Folders of shards, all of one encoder."""
    output: Path
    """The .safetensors file to write; checkpoints are in the folder of the same name with suffix .training."""
    held_out: tuple[str, ...] = ()
    """Scenes to hold out; by default every tenth."""
    latent_dim: int = 16
    """Width D of the latents."""
    architecture: str = "residual"
    """mlp, residual, langsplat (its layer widths) or linear."""
    training: TrainingSettings = TrainingSettings(  # noqa: RUF009 - frozen
        learning_rate=1e-3, batch_size=512, mix=0.6, mix_noise=0.01, average_decay=0.999, patience=8
    )
    """Training settings."""

    def __call__(self) -> None:
        """Runs the command."""
        split = Split.from_folders(self.shards, self.held_out)
        workers = workers_from_environment()
        if workers.is_first:
            # Reports damaged shards before the training.
            for folder in self.shards:
                ShardFolder.read(folder).verify()
        source = EmbeddingStream(
            self.shards, split.trained, seed=self.training.seed, rank=workers.rank, world_size=workers.world_size
        )
        held_out = read_rows(self.shards, split.held_out, max_rows=20_000, seed=1)
        identity = AutoencoderIdentity(
            name=self.output.stem,
            encoder=source.encoder,
            embedding_dim=source.embedding_dim,
            latent_dim=self.latent_dim,
            architecture=self.architecture,
            training_data=f"{source.rows} regions of {len(split.trained)} scenes",
            command="python -m pretrain " + shlex.join(sys.argv[1:]),
        )
        result = train_autoencoder(
            source,
            identity,
            self.training,
            held_out=held_out.embeddings,
            checkpoint_dir=self.output.with_suffix(".training"),
            log_dir=self.output.with_suffix(".training") / "log",
        )
        if not workers.is_first:
            return
        pca_baseline = PcaBaseline(read_rows(self.shards, split.trained, max_rows=20_000, seed=2).embeddings)
        rows = fidelity_rows(result.autoencoder, held_out, pca_baseline)
        figures = {f"held out: {key}": round(value, 4) for key, value in rows["held out"].items()}
        result.autoencoder.identity = replace(
            identity, held_out_cosine=round(rows["held out"]["cosine"], 4), figures=figures
        )
        save_autoencoder(self.output, result.autoencoder)
        title = f"{identity.name}, {result.seconds:.0f} s, best at step {result.best_step}"
        show_fidelity(title, "embeddings", rows)
        CONSOLE.print(f"Wrote {self.output}. Use it with --pipeline.model.autoencoder {self.output}.")


@dataclass(frozen=True)
class Sweep:
    """Train one autoencoder per latent width, and write a table and a plot of their fidelity."""

    shards: tuple[Path, ...]
    """Folders of shards, all of one encoder."""
    output_dir: Path
    """Output folder of sweep.json and sweep.png."""
    held_out: tuple[str, ...] = ()
    """Scenes to hold out; by default every tenth."""
    latent_dims: tuple[int, ...] = SWEEP_WIDTHS
    """Latent widths D."""
    architecture: str = "residual"
    """mlp, residual, langsplat or linear."""
    training: TrainingSettings = SHORT_TRAINING
    """Settings of each training."""

    def __call__(self) -> None:
        """Runs the command."""
        split = Split.from_folders(self.shards, self.held_out)
        run_sweep(
            lambda: EmbeddingStream(self.shards, split.trained, seed=self.training.seed),
            read_rows(self.shards, split.held_out, max_rows=20_000, seed=1).embeddings,
            read_rows(self.shards, split.trained, max_rows=20_000, seed=2).embeddings,
            self.latent_dims,
            self.architecture,
            self.training,
            self.output_dir,
        )


@dataclass(frozen=True)
class Cross:
    """Train an autoencoder on each folder of shards and measure it on all of them, to test generalization."""

    shards: tuple[Path, ...]
    """Folders of shards, all of one encoder; each is one domain."""
    output: Path
    """The .json file for the table."""
    latent_dim: int = 16
    """Width D of the latents."""
    architecture: str = "residual"
    """mlp, residual, langsplat or linear."""
    training: TrainingSettings = SHORT_TRAINING
    """Settings of each training."""

    def __call__(self) -> None:
        """Runs the command."""
        domains = []
        for folder in self.shards:
            split = Split.from_folders((folder,), ())
            domains.append(
                Domain(
                    folder.name,
                    EmbeddingStream((folder,), split.trained, seed=self.training.seed),
                    read_rows((folder,), split.held_out, max_rows=20_000, seed=1).embeddings,
                    read_rows((folder,), split.trained, max_rows=20_000, seed=2).embeddings,
                )
            )
        evaluate_across(domains, self.latent_dim, self.architecture, self.training, self.output)
