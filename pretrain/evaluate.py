"""Measures the fidelity of an autoencoder of the embedded encoder: reconstruction, classes and text rankings."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.features.extract import view_features
from genlangsplat_ns.features.masks import MaskGenerator
from genlangsplat_ns.language.autoencoder import Autoencoder
from genlangsplat_ns.utils.progress import track
from pretrain.fidelity import PcaBaseline, measure_fidelity
from pretrain.images import ImageFolderSource
from pretrain.retrieval import top_count, top_overlap

PHOTO_LONG_SIDE = 480
"""Long side in pixels to which images are downscaled, about the size of a training view."""

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
"""Texts for measuring whether the ranking of embeddings is preserved."""


def nearest_agreement(
    before: Float[Tensor, "count embedding_dim"],
    after: Float[Tensor, "count embedding_dim"],
    candidates: Float[Tensor, "num_candidates embedding_dim"],
) -> float:
    """Fraction of embeddings whose nearest candidate is the same before and after the autoencoder."""
    nearest = [(rows @ candidates.T).argmax(dim=-1) for rows in (before, after)]
    return (nearest[0] == nearest[1]).float().mean().item()


@torch.no_grad()
def measure(
    autoencoder: Autoencoder,
    embeddings: Float[Tensor, "count embedding_dim"],
    pca_baseline: PcaBaseline,
    classes: Float[Tensor, "num_classes embedding_dim"],
    texts: Float[Tensor, "num_texts embedding_dim"],
) -> dict[str, float]:
    """Computes all figures for one set of embeddings of the embedded encoder."""
    reconstructions = autoencoder(embeddings)
    return {
        **measure_fidelity(autoencoder, embeddings, pca_baseline),
        "nearest class kept": nearest_agreement(embeddings, reconstructions, F.normalize(classes, dim=-1)),
        "text ranking kept": top_overlap(embeddings, reconstructions, texts, top_count(len(embeddings))),
    }


def photo_embeddings(folder: Path, encoder: ImageTextEncoder, masks: MaskGenerator) -> Float[Tensor, "count dim"]:
    """Embeds all regions of the images in a folder.

    Raises:
        GenLangSplatError: If the folder contains no images, or one cannot be read.
    """
    source = ImageFolderSource(folder, PHOTO_LONG_SIDE)
    frames = track(source.frames(), f"Encoding {source.name}")
    return torch.cat([view_features(source.load(frame), masks, encoder).embeddings for frame in frames])
