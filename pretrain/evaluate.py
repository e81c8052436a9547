"""Measures how faithful an autoencoder of the embedded encoder is: numbers, and what classes and texts still find."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.console import track
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.features.extract import view_features
from genlangsplat_ns.features.masks import MaskGenerator
from genlangsplat_ns.language.autoencoder import Autoencoder
from pretrain.fidelity import Yardstick, measure_fidelity
from pretrain.images import ImageFolderSource

PHOTO_LONG_SIDE = 480
"""Photographs are scaled down to this long side, about what a training view has."""

PROBE_TEXTS: tuple[str, ...] = (
    "a fox",
    "wild animal",
    "picture frame",
    "cat",
    "coffee mug",
    "a vehicle",
    "building",
    "flower",
    "furniture",
    "cloth",
)
"""Texts whose ranking of embeddings should survive the autoencoder."""


def nearest_kept(
    autoencoder: Autoencoder,
    embeddings: Float[Tensor, "count embedding_dim"],
    candidates: Float[Tensor, "num_candidates embedding_dim"],
) -> float:
    """Share of embeddings whose nearest candidate is the same before and after the autoencoder."""
    with torch.no_grad():
        before = (embeddings @ candidates.T).argmax(dim=-1)
        after = (autoencoder(embeddings) @ candidates.T).argmax(dim=-1)
    return (before == after).float().mean().item()


def ranking_overlap(
    autoencoder: Autoencoder,
    embeddings: Float[Tensor, "count embedding_dim"],
    texts: Float[Tensor, "num_texts embedding_dim"],
    share: float = 0.05,
) -> float:
    """How much of what a text finds it still finds: overlap of the best `share` before and after, mean over texts."""
    kept = max(1, round(share * len(embeddings)))
    with torch.no_grad():
        before = (embeddings @ texts.T).topk(kept, dim=0).indices
        after = (autoencoder(embeddings) @ texts.T).topk(kept, dim=0).indices
    overlaps = [torch.isin(before[:, i], after[:, i]).float().mean() for i in range(len(texts))]
    return torch.stack(overlaps).mean().item()


def measure(
    autoencoder: Autoencoder,
    embeddings: Float[Tensor, "count embedding_dim"],
    yardstick: Yardstick,
    classes: Float[Tensor, "num_classes embedding_dim"],
    texts: Float[Tensor, "num_texts embedding_dim"],
) -> dict[str, float]:
    """All measurements of one set of the embedded encoder's embeddings."""
    return {
        **measure_fidelity(autoencoder, embeddings, yardstick),
        "nearest class kept": nearest_kept(autoencoder, embeddings, F.normalize(classes, dim=-1)),
        "text ranking kept": ranking_overlap(autoencoder, embeddings, texts),
    }


def photo_embeddings(
    folder: Path, encoder: ImageTextEncoder, masks: MaskGenerator
) -> Float[Tensor, "count embedding_dim"]:
    """Embeds all regions of the photographs in a folder.

    Raises:
        GenLangSplatError: If the folder holds no photographs, or one cannot be read.
    """
    source = ImageFolderSource(folder, PHOTO_LONG_SIDE)
    frames = track(source.frames(), f"Encoding {source.name}")
    return torch.cat([view_features(source.load(frame), masks, encoder).embeddings for frame in frames])
