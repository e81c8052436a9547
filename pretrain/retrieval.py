"""Retrieval with compressed embeddings: text-to-image R@1, and rankings of regions by texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder
from pretrain.fidelity import PcaBaseline

TOP_SHARE = 0.05
"""Fraction of the regions that counts as the best ones of a text."""


@dataclass(frozen=True)
class Pairs:
    """Unit embeddings of texts and images, and the row of the image that each text describes."""

    texts: Float[Tensor, "num_texts embedding_dim"]
    images: Float[Tensor, "num_images embedding_dim"]
    image_of_text: Int64[Tensor, " num_texts"]

    @classmethod
    def read(cls, path: Path, embedding_dim: int) -> Pairs:
        """Reads a .safetensors file with the tensors `texts`, `images` and `image_of_text`.

        Raises:
            GenLangSplatError: If the file is missing or damaged, or its tensors have other names, shapes or values.
        """
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise GenLangSplatError(
                f"The pairs {path} cannot be read ({error}). Give a .safetensors file with the tensors texts, images "
                "and image_of_text."
            ) from error
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        fits = shapes.keys() == {"texts", "images", "image_of_text"} and (
            all(len(shapes[name]) == 2 and shapes[name][1] == embedding_dim for name in ("texts", "images"))
            and shapes["image_of_text"] == shapes["texts"][:1]
            and not tensors["image_of_text"].is_floating_point()
        )
        if not fits:
            raise GenLangSplatError(
                f"The pairs {path} need texts (texts, {embedding_dim}), images (images, {embedding_dim}) and integers "
                f"image_of_text (texts,); found {shapes}."
            )
        rows = tensors["image_of_text"].long()
        images = shapes["images"][0]
        if len(rows) == 0 or int(rows.min()) < 0 or int(rows.max()) >= images:
            raise GenLangSplatError(
                f"Some image_of_text of {path} refer to no image: there are {len(rows)} texts and {images} images. "
                "Give rows of images, from 0."
            )
        return cls(F.normalize(tensors["texts"].float()), F.normalize(tensors["images"].float()), rows)

    def recall_at_1(self, images: Float[Tensor, "num_images embedding_dim"]) -> float:
        """Returns the fraction of texts whose nearest image is their own; `images` may be compressed embeddings."""
        return float(((self.texts @ images.T).argmax(dim=-1) == self.image_of_text).float().mean())


@torch.no_grad()
def measure_retrieval(autoencoder: Autoencoder, pairs: Pairs, pca_baseline: PcaBaseline) -> dict[str, float]:
    """Measures text-to-image R@1 without compression, with the autoencoder, and with a PCA of the same width."""
    return {
        "uncompressed": pairs.recall_at_1(pairs.images),
        "autoencoder": pairs.recall_at_1(autoencoder(pairs.images)),
        "PCA": pairs.recall_at_1(pca_baseline.pca(pairs.images, autoencoder.identity.latent_dim)),
    }


def top_overlap(
    before: Float[Tensor, "num_regions embedding_dim"],
    after: Float[Tensor, "num_regions embedding_dim"],
    texts: Float[Tensor, "num_texts embedding_dim"],
    count: int,
) -> float:
    """Returns the fraction of each text's top `count` regions that stays in its top `count`, averaged over texts."""
    best = [(regions @ texts.T).topk(count, dim=0).indices for regions in (before, after)]
    overlaps = [torch.isin(best[0][:, text], best[1][:, text]).float().mean() for text in range(len(texts))]
    return torch.stack(overlaps).mean().item()


@torch.no_grad()
def measure_ranking(
    autoencoder: Autoencoder,
    regions: Float[Tensor, "num_regions embedding_dim"],
    texts: Float[Tensor, "num_texts embedding_dim"],
    pca_baseline: PcaBaseline,
) -> dict[str, dict[str, float]]:
    """Measures how many of the best regions of each text stay the best: the top one and the top 5 %."""
    after = {
        "uncompressed": regions,
        "autoencoder": autoencoder(regions),
        "PCA": pca_baseline.pca(regions, autoencoder.identity.latent_dim),
    }
    counts = {"best region kept": 1, f"best {TOP_SHARE:.0%} kept": top_count(len(regions))}
    return {
        name: {kind: top_overlap(regions, rows, texts, count) for kind, rows in after.items()}
        for name, count in counts.items()
    }


def top_count(num_regions: int) -> int:
    """Returns how many regions are in `TOP_SHARE`."""
    return max(1, round(TOP_SHARE * num_regions))
