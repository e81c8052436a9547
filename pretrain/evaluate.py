"""Measures how faithful an autoencoder is, beside what trivial compressors reach on the same embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from genlangsplat_ns.console import track
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.features.extract import view_features
from genlangsplat_ns.features.masks import MaskGenerator
from genlangsplat_ns.language.autoencoder import Autoencoder

PHOTO_LONG_SIDE = 480
"""Photographs are scaled down to this long side, about what a training view has."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")

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


def reconstruction_cosine(autoencoder: Autoencoder, embeddings: Float[Tensor, "count embedding_dim"]) -> float:
    """Mean cosine between embeddings and their reconstruction."""
    with torch.no_grad():
        return F.cosine_similarity(autoencoder(embeddings), embeddings, dim=-1).mean().item()


def constant_cosine(
    fitted_on: Float[Tensor, "fitted embedding_dim"], embeddings: Float[Tensor, "count embedding_dim"]
) -> float:
    """Mean cosine of embeddings with one constant direction, the mean of `fitted_on`.

    A high cosine of an autoencoder means little where this one is high.
    """
    return F.cosine_similarity(fitted_on.mean(dim=0, keepdim=True), embeddings, dim=-1).mean().item()


def pca_cosine(
    fitted_on: Float[Tensor, "fitted embedding_dim"], embeddings: Float[Tensor, "count embedding_dim"], latent_dim: int
) -> float:
    """Mean cosine of embeddings with their projection on the `latent_dim` leading directions of `fitted_on`.

    The directions are of the uncentred second moments: a code for directions needs no offset.
    """
    _, vectors = torch.linalg.eigh(fitted_on.T @ fitted_on)
    basis = vectors[:, -latent_dim:]
    return F.cosine_similarity(embeddings @ basis @ basis.T, embeddings, dim=-1).mean().item()


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
    fitted_on: Float[Tensor, "fitted embedding_dim"],
    classes: Float[Tensor, "num_classes embedding_dim"],
    texts: Float[Tensor, "num_texts embedding_dim"],
) -> dict[str, float]:
    """All measurements of one set of embeddings; the two baselines are fitted on `fitted_on`."""
    return {
        "cosine": reconstruction_cosine(autoencoder, embeddings),
        "constant": constant_cosine(fitted_on, embeddings),
        "pca": pca_cosine(fitted_on, embeddings, autoencoder.identity.latent_dim),
        "nearest class kept": nearest_kept(autoencoder, embeddings, F.normalize(classes, dim=-1)),
        "text ranking kept": ranking_overlap(autoencoder, embeddings, texts),
    }


def photo_embeddings(
    folder: Path, encoder: ImageTextEncoder, masks: MaskGenerator
) -> Float[Tensor, "count embedding_dim"]:
    """Embeds all regions of the photographs in a folder.

    Raises:
        GenLangSplatError: If the folder holds no photographs.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise GenLangSplatError(
            f"There are no photographs in {folder} (looked for {', '.join(PHOTO_SUFFIXES)}). Give a folder of images."
        )
    images = track(_read_photos(paths), f"Encoding {folder.name}", total=len(paths))
    return torch.cat([view_features(image, masks, encoder).embeddings for image in images])


def _read_photos(paths: Sequence[Path]) -> Iterator[UInt8[Tensor, "height width 3"]]:
    for path in paths:
        image = Image.open(path).convert("RGB")
        image.thumbnail((PHOTO_LONG_SIDE, PHOTO_LONG_SIDE), Image.Resampling.LANCZOS)
        yield torch.from_numpy(np.array(image))
