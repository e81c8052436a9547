"""Trains an autoencoder on any source of embeddings. It does not know where they come from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.console import track
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity

EmbeddingSource = Callable[[int], Float[Tensor, "count embedding_dim"]]
"""Gives that many unit embeddings, new ones at each call."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: Optimiser steps.
        batch_size: Embeddings per step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: AdamW's.
        cosine_weight: Lambda of the paper's loss.
        seed: Seeds the weights; the source has its own seed.
        device: Where to train.
    """

    steps: int = 16000
    batch_size: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    cosine_weight: float = 1.0
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class TrainingResult:
    """A trained autoencoder (on the CPU, in evaluation mode), its loss at each step, and the seconds it took."""

    autoencoder: Autoencoder
    losses: list[float]
    seconds: float


def reconstruction_loss(
    reconstructions: Float[Tensor, "count embedding_dim"],
    embeddings: Float[Tensor, "count embedding_dim"],
    cosine_weight: float,
) -> Float[Tensor, ""]:
    """The paper's equation 5: squared L2 plus lambda times (1 - cosine), the mean over the rows.

    Between unit vectors the first term is 2 (1 - cosine), so that lambda only scales the loss; both stand here because
    the paper states both, and because they differ as soon as one side is not normalised.
    """
    squared = (reconstructions - embeddings).square().sum(dim=-1)
    cosine = F.cosine_similarity(reconstructions, embeddings, dim=-1)
    return (squared + cosine_weight * (1.0 - cosine)).mean()


def train_autoencoder(
    source: EmbeddingSource, identity: AutoencoderIdentity, settings: TrainingSettings
) -> TrainingResult:
    """Trains an autoencoder from scratch.

    The same source state, identity and settings give the same weights on the same machine.

    Args:
        source: Where the embeddings come from.
        identity: What to build; its figures are filled in later by whoever evaluates.
        settings: How to train.

    Raises:
        GenLangSplatError: If `steps` or `batch_size` is not positive.
    """
    if settings.steps < 1 or settings.batch_size < 1:
        raise GenLangSplatError(
            f"Training needs at least one step and one embedding per step, got steps={settings.steps} and "
            f"batch_size={settings.batch_size}."
        )
    started = time.perf_counter()
    device = torch.device(settings.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        autoencoder = Autoencoder(identity).to(device).train()
    optimizer = torch.optim.AdamW(
        autoencoder.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    losses: list[float] = []
    for _ in track(range(settings.steps), "Training the autoencoder"):
        embeddings = source(settings.batch_size).to(device)
        loss = reconstruction_loss(autoencoder(embeddings), embeddings, settings.cosine_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    autoencoder = autoencoder.cpu().eval().requires_grad_(False)
    return TrainingResult(autoencoder, losses, time.perf_counter() - started)
