"""The commands `train-conse` and `evaluate-conse` for the autoencoder of the embedded encoder."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro

from genlangsplat_ns.features.encoders import ConSEEncoder, encoder_identity, load_encoder
from genlangsplat_ns.features.masks import load_mask_generator
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.language.named_autoencoders import load_autoencoder
from genlangsplat_ns.utils.console import CONSOLE
from pretrain.evaluate import PROBE_TEXTS, measure, photo_embeddings
from pretrain.fidelity import PcaBaseline
from pretrain.mixtures import MixtureSampler, MixtureSettings
from pretrain.tables import show_fidelity
from pretrain.train import TrainingSettings, train_autoencoder

SHARP_MIXTURES = MixtureSettings(max_anchors=2, broadness=1.0)
"""Mixtures of one or two classes, as for photographs of a single object."""

HELD_OUT_MIXTURES = 8192
HELD_OUT_SEED = 1_000_003
"""Different from all training seeds, so that evaluation draws unseen mixtures."""


@dataclass(frozen=True)
class TrainConse:
    """Train the autoencoder of the embedded encoder on synthetic mixtures, without images.

    Attributes:
        output: The .safetensors file to write.
        latent_dim: Width D of the latents.
        architecture: mlp or linear.
        training: Training settings.
    """

    output: Path
    latent_dim: int = 16
    architecture: str = "mlp"
    training: tyro.conf.OmitArgPrefixes[TrainingSettings] = TrainingSettings(  # noqa: RUF009 - frozen
        batch_size=512, average_decay=0.999
    )

    def __call__(self) -> None:
        """Runs the command."""
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
        result = train_autoencoder(MixtureSampler.from_encoder(encoder, settings.seed), identity, settings)
        rows = evaluate_conse(result.autoencoder, encoder, images=())
        figures = {f"{name}: {key}": round(value, 4) for name, row in rows.items() for key, value in row.items()}
        figures["training seconds"] = round(result.seconds)
        held_out_cosine = round(rows["held-out mixtures"]["cosine"], 4)
        result.autoencoder.identity = replace(identity, held_out_cosine=held_out_cosine, figures=figures)
        save_autoencoder(self.output, result.autoencoder)
        show_fidelity(f"{identity.name}, trained in {result.seconds:.0f} s", "embeddings", rows)
        CONSOLE.print(f"Wrote {self.output} ({self.output.stat().st_size / 1e6:.2f} MB).")


@dataclass(frozen=True)
class EvaluateConse:
    """Measure the fidelity of an autoencoder on unseen mixtures and on regions of images.

    Attributes:
        file: The .safetensors file, or the name of a packaged autoencoder.
        images: Folders of images; each becomes a row of the table.
    """

    file: Annotated[str, tyro.conf.Positional]
    images: tuple[Path, ...] = ()

    def __call__(self) -> None:
        """Runs the command."""
        autoencoder = load_autoencoder(self.file, encoder_identity=encoder_identity("conse"))
        rows = evaluate_conse(autoencoder, _conse(), self.images)
        show_fidelity(autoencoder.identity.name, "embeddings", rows)


def evaluate_conse(
    autoencoder: Autoencoder, encoder: ConSEEncoder, images: tuple[Path, ...]
) -> dict[str, dict[str, float]]:
    """Measures an autoencoder on unseen mixtures, on the class embeddings and on folders of images."""
    held_out = MixtureSampler.from_encoder(encoder, HELD_OUT_SEED)
    sharp = MixtureSampler.from_encoder(encoder, HELD_OUT_SEED, SHARP_MIXTURES)
    pca_baseline = PcaBaseline(held_out(HELD_OUT_MIXTURES))
    sets: dict[str, torch.Tensor] = {
        "held-out mixtures": held_out(HELD_OUT_MIXTURES),
        "held-out sharp mixtures": sharp(HELD_OUT_MIXTURES),
        "class names": F.normalize(encoder.class_embeddings, dim=-1),
    }
    for folder in images:
        sets[f"regions of {folder}"] = photo_embeddings(folder, encoder, load_mask_generator("watershed"))
    texts = encoder.encode_texts(PROBE_TEXTS)
    return {
        name: measure(autoencoder, embeddings, pca_baseline, encoder.class_embeddings, texts)
        for name, embeddings in sets.items()
    }


def _options(command: TrainConse) -> list[str]:
    """Returns all settings of a training as command-line options, so that the command does not depend on defaults."""
    settings = {"latent_dim": command.latent_dim, "architecture": command.architecture, **asdict(command.training)}
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]


def _conse() -> ConSEEncoder:
    encoder = load_encoder("conse")
    assert isinstance(encoder, ConSEEncoder)
    return encoder
