"""The commands `train-conse` and `evaluate-conse` for the autoencoder of the embedded encoder."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.features.class_table import write_table
from genlangsplat_ns.features.conse import ConSEEncoder, class_names
from genlangsplat_ns.features.encoders import encoder_identity, load_encoder
from genlangsplat_ns.features.extract import view_features
from genlangsplat_ns.features.masks import load_mask_generator
from genlangsplat_ns.features.sentences import SentenceModel, with_article
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.language.named_autoencoders import load_autoencoder
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.progress import track
from pretrain.distributed import join_workers
from pretrain.fidelity import Figures, PcaBaseline, measure_fidelity, top_overlap
from pretrain.mixtures import MixtureSampler, MixtureSettings
from pretrain.report import save_measured, show_fidelity
from pretrain.settings import TrainingSettings
from pretrain.sources import ImageFolderSource
from pretrain.training import train_autoencoder

SHARP_MIXTURES = MixtureSettings(max_anchors=2, broadness=1.0)
"""Mixtures of one or two classes, as for photographs of a single object."""

HELD_OUT_MIXTURES = 8192
HELD_OUT_SEED = 1_000_003
"""Different from all training seeds, so that evaluation draws unseen mixtures."""

PHOTO_LONG_SIDE = 480
"""Long side in pixels to which images are downscaled, about the size of a training view."""

PROBE_TEXTS = (
    *("a fox", "wild animal", "picture frame", "cat", "coffee mug"),
    *("a vehicle", "building", "flower", "furniture", "cloth"),
)
"""Texts for measuring whether the ranking of embeddings is preserved."""


@dataclass(frozen=True)
class EmbedClasses:
    """Write the sentence embeddings of ImageNet's class names, which the embedded encoder loads at its start."""

    output: Path
    """The .safetensors file to write."""

    def __call__(self) -> None:
        write_table(self.output, [with_article(name) for name in class_names()], SentenceModel())
        CONSOLE.print(f"Wrote {escape(str(self.output))}.")


@dataclass(frozen=True)
class TrainConse:
    """Train the autoencoder of the embedded encoder on synthetic mixtures, without images."""

    output: Path
    """The .safetensors file to write."""
    latent_dim: int = 16
    """Width D of the latents."""
    architecture: str = "mlp"
    """mlp, residual, langsplat (its layer widths) or linear."""
    training: tyro.conf.OmitArgPrefixes[TrainingSettings] = TrainingSettings(  # noqa: RUF009 - frozen
        batch_size=512, average_decay=0.999
    )
    """Training settings."""

    def __call__(self) -> None:
        encoder = _conse()
        settings = self.training
        identity = AutoencoderIdentity(
            name=f"conse-{self.latent_dim}",
            encoder=encoder.identity,
            embedding_dim=encoder.embedding_dim,
            latent_dim=self.latent_dim,
            architecture=self.architecture,
            training_data=f"{settings.steps * settings.batch_size} synthetic mixtures of 1000 class embeddings",
            command="python -m pretrain train-conse " + shlex.join(_options(self)),
        )
        # Each process of torchrun draws mixtures of its own.
        workers = join_workers(settings.device)
        sampler = MixtureSampler.from_encoder(encoder, settings.seed + 7919 * workers.rank)
        result = train_autoencoder(sampler, identity, settings)
        if workers.is_first:
            save_measured(self.output, result, evaluate_conse(result.autoencoder, encoder))


@dataclass(frozen=True)
class EvaluateConse:
    """Measure the fidelity of an autoencoder on unseen mixtures and on regions of images."""

    file: Annotated[str, tyro.conf.Positional]
    """The .safetensors file, or the name of a packaged autoencoder."""
    images: tuple[Path, ...] = ()
    """Folders of images; each becomes a row of the table."""

    def __call__(self) -> None:
        autoencoder = load_autoencoder(self.file, encoder_identity=encoder_identity("conse"))
        rows = evaluate_conse(autoencoder, _conse(), self.images)
        show_fidelity(autoencoder.identity.name, "embeddings", rows)


def evaluate_conse(
    autoencoder: Autoencoder, encoder: ConSEEncoder, images: tuple[Path, ...] = ()
) -> dict[str, Figures]:
    """Measures an autoencoder on unseen mixtures, on the class embeddings and on folders of images."""
    held_out = MixtureSampler.from_encoder(encoder, HELD_OUT_SEED)
    sharp = MixtureSampler.from_encoder(encoder, HELD_OUT_SEED, SHARP_MIXTURES)
    pca_baseline = PcaBaseline(held_out(HELD_OUT_MIXTURES))
    texts, classes = encoder.encode_texts(PROBE_TEXTS), F.normalize(encoder.class_embeddings, dim=-1)
    sets = {
        "held-out mixtures": held_out(HELD_OUT_MIXTURES),
        "held-out sharp mixtures": sharp(HELD_OUT_MIXTURES),
        "class names": classes,
    }
    sets |= {f"regions of {folder}": photo_embeddings(folder, encoder) for folder in images}
    rows = {}
    for name, embeddings in sets.items():
        with torch.no_grad():
            reconstructions = autoencoder(embeddings)
        rows[name] = {
            **measure_fidelity(autoencoder, embeddings, pca_baseline),
            "nearest class kept": nearest_agreement(embeddings, reconstructions, classes),
            "text ranking kept": top_overlap(embeddings, reconstructions, texts),
        }
    return rows


def nearest_agreement(
    before: Float[Tensor, "count embedding_dim"],
    after: Float[Tensor, "count embedding_dim"],
    candidates: Float[Tensor, "num_candidates embedding_dim"],
) -> float:
    """Returns the fraction of embeddings whose nearest candidate is the same before and after the autoencoder."""
    nearest = [(rows @ candidates.T).argmax(dim=-1) for rows in (before, after)]
    return (nearest[0] == nearest[1]).float().mean().item()


def photo_embeddings(folder: Path, encoder: ConSEEncoder) -> Float[Tensor, "count dim"]:
    """Embeds all regions of the images in a folder; raises GenLangSplatError if there are none or one is damaged."""
    source, masks = ImageFolderSource(folder, PHOTO_LONG_SIDE), load_mask_generator("watershed")
    frames = track(source.frames(), f"Encoding {source.name}")
    return torch.cat([view_features(source.load(frame), masks, encoder).embeddings for frame in frames])


def _options(command: TrainConse) -> list[str]:
    """Returns all settings of a training as command-line options, so that the command does not depend on defaults."""
    settings = {"latent_dim": command.latent_dim, "architecture": command.architecture, **asdict(command.training)}
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]


def _conse() -> ConSEEncoder:
    encoder = load_encoder("conse")
    assert isinstance(encoder, ConSEEncoder)
    return encoder
