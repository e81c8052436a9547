"""The commands `evaluate`, `inspect` and `export` for trained autoencoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.settings import EncoderName, FeatureSettings, OpenClipSettings
from genlangsplat_ns.language.autoencoder import Autoencoder, read_identity
from genlangsplat_ns.language.named_autoencoders import export_autoencoder, find_autoencoder, load_autoencoder
from genlangsplat_ns.utils.console import CONSOLE
from pretrain.fidelity import PcaBaseline, fidelity_rows, measure_ranking
from pretrain.report import show_fidelity, show_table
from pretrain.scene_files import read_folders, read_rows

SAMPLE_ROWS = 50_000
"""Size of the random sample of embeddings that is measured."""


@dataclass(frozen=True)
class Evaluate:
    """Measure the fidelity of an autoencoder on embeddings, per level and per source."""

    file: Annotated[str, tyro.conf.Positional]
    """The .safetensors file, or the name of a packaged or exported autoencoder."""
    embeddings: tuple[Path, ...]
    """Folders of the embeddings to measure."""
    fitted_on: tuple[Path, ...] = ()
    """Folders of embeddings for fitting the PCA baseline; by default the measured ones, which favors the baseline."""
    texts: tuple[str, ...] = ()
    """Texts for measuring whether their best regions stay the same; embedded with --encoder."""
    encoder: EncoderName = "auto"
    """Encoder of the embeddings and texts: conse or openclip."""
    open_clip: OpenClipSettings = OpenClipSettings()  # noqa: RUF009 - only read
    """Settings of openclip."""

    def __call__(self) -> None:
        files = read_folders(self.embeddings)
        sample = read_rows(files, max_rows=SAMPLE_ROWS, seed=1)
        autoencoder = load_autoencoder(self.file, encoder_identity=files[0].identity.encoder_identity)
        fitted_on = read_folders(self.fitted_on) if self.fitted_on else files
        pca_baseline = PcaBaseline(read_rows(fitted_on, max_rows=20_000, seed=2).embeddings)
        rows = fidelity_rows(autoencoder, sample, pca_baseline, name="all")
        show_fidelity(autoencoder.identity.name, "embeddings", rows)
        if self.texts:
            self._show_ranking(autoencoder, sample.embeddings, pca_baseline)

    def _show_ranking(self, autoencoder: Autoencoder, regions: Tensor, pca_baseline: PcaBaseline) -> None:
        encoder = autoencoder.identity.encoder
        extractor = FeatureExtractor(FeatureSettings(encoder=self.encoder, masks="watershed", open_clip=self.open_clip))
        if extractor.encoder_identity != encoder:
            raise GenLangSplatError(
                f"The embeddings are of {encoder}, but the encoder of the texts is {extractor.encoder_identity}. "
                "Choose the encoder of the embeddings with --encoder."
            )
        texts = extractor.load_text_encoder().encode_texts(self.texts)
        ranking = measure_ranking(autoencoder, regions, texts, pca_baseline)
        show_table("Ranking of the regions", "best regions of a text", ranking)


@dataclass(frozen=True)
class Inspect:
    """Print the metadata of an autoencoder: encoder, widths, training data, figures and training command."""

    file: Annotated[str, tyro.conf.Positional]
    """The .safetensors file, or the name of a packaged or exported autoencoder."""

    def __call__(self) -> None:
        identity = read_identity(find_autoencoder(self.file))
        table = Table("what", "value", title=identity.name)
        for name, value in vars(identity).items():
            lines = [f"{key}: {figure}" for key, figure in value.items()] if isinstance(value, dict) else [str(value)]
            table.add_row(name, escape("\n".join(lines)))
        CONSOLE.print(table)


@dataclass(frozen=True)
class Export:
    """Copy an autoencoder into the user's cache folder, where runs find it by name or by encoder."""

    file: Annotated[str, tyro.conf.Positional]
    """The .safetensors file."""
    name: str = ""
    """Name of the copy; by default the name in the file."""

    def __call__(self) -> None:
        path = find_autoencoder(self.file)
        identity = read_identity(path)
        exported = export_autoencoder(path, self.name or identity.name)
        CONSOLE.print(
            f"Wrote {exported}. Use it with --pipeline.model.autoencoder {exported.stem}; auto selects it for "
            f"{escape(identity.encoder)} unless there is a packaged one."
        )
