"""What of embeddings survives a compressor, beside what principal components keep of them in as many numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.autoencoder import Autoencoder
from genlangsplat_ns.levels import LEVELS
from pretrain.row_subset import RowSample

COLLAPSED = 0.25
"""Latents that use less than this share of their dimensions have collapsed."""


@dataclass(frozen=True)
class PcaBaseline:
    """What the training embeddings alone can tell: their mean and their principal directions.

    Attributes:
        fitted_on: The training embeddings, or a sample of them.
    """

    fitted_on: Float[Tensor, "fitted embedding_dim"]

    @cached_property
    def mean(self) -> Float[Tensor, " embedding_dim"]:
        """The mean; as a constant answer it may score a high cosine, which is why cosines are also given without it."""
        return self.fitted_on.mean(dim=0)

    @cached_property
    def _directions(self) -> Float[Tensor, "embedding_dim embedding_dim"]:
        centered = (self.fitted_on - self.mean).double()
        return torch.linalg.eigh(centered.T @ centered)[1].flip(dims=(1,)).float()

    def pca(self, embeddings: Float[Tensor, "count embedding_dim"], latent_dim: int) -> Tensor:
        """Projects on `latent_dim` principal directions: mean removed, added back, normalized."""
        basis = self._directions[:, :latent_dim]
        return F.normalize((embeddings - self.mean) @ basis @ basis.T + self.mean, dim=-1)


def fidelity(
    reconstructions: Float[Tensor, "count embedding_dim"],
    embeddings: Float[Tensor, "count embedding_dim"],
    pca_baseline: PcaBaseline,
) -> dict[str, float]:
    """Mean squared error, cosine, and cosine of what differs from the mean.

    Between unit vectors the error, a mean over the E numbers of a row, is 2 (1 - cosine) / E.
    """
    centered = F.cosine_similarity(reconstructions - pca_baseline.mean, embeddings - pca_baseline.mean, dim=-1)
    return {
        "mse": float((reconstructions - embeddings).square().mean()),
        "cosine": float(F.cosine_similarity(reconstructions, embeddings, dim=-1).mean()),
        "centered cosine": float(centered.mean()),
    }


@torch.no_grad()
def reconstruction_cosine(autoencoder: Autoencoder, embeddings: Float[Tensor, "count embedding_dim"]) -> float:
    """Mean cosine between embeddings and their reconstruction."""
    return float(F.cosine_similarity(autoencoder(embeddings), embeddings, dim=-1).mean())


def latent_usage(latents: Float[Tensor, "count latent_dim"]) -> float:
    """Share of the latent dimensions that carry something, 1/D to 1: the participation ratio of their variances.

    Below `COLLAPSED` a code has collapsed: many embeddings share few latents.
    """
    variances = torch.linalg.eigvalsh(torch.cov(latents.double().T).reshape(latents.shape[1], -1)).clamp(min=0)
    total = variances.sum()
    return float(total**2 / variances.square().sum().clamp(min=1e-30) / latents.shape[1]) if total > 0 else 0.0


@torch.no_grad()
def measure_fidelity(
    autoencoder: Autoencoder, embeddings: Float[Tensor, "count embedding_dim"], pca_baseline: PcaBaseline
) -> dict[str, float]:
    """What an autoencoder keeps of embeddings, beside the constant and the principal components of the training set."""
    latents = autoencoder.encode(embeddings)
    row = fidelity(autoencoder.decode(latents), embeddings, pca_baseline)
    components = fidelity(pca_baseline.pca(embeddings, autoencoder.identity.latent_dim), embeddings, pca_baseline)
    return {
        **row,
        "PCA cosine": components["cosine"],
        "PCA centered": components["centered cosine"],
        "constant": float(F.cosine_similarity(pca_baseline.mean[None], embeddings, dim=-1).mean()),
        "latent usage": latent_usage(latents),
    }


def fidelity_rows(
    autoencoder: Autoencoder, sample: RowSample, pca_baseline: PcaBaseline, name: str = "held out"
) -> dict[str, dict[str, float]]:
    """Measures a sample as a whole, level by level, and source by source where there are several."""
    rows = {name: measure_fidelity(autoencoder, sample.embeddings, pca_baseline)}
    for level, level_name in enumerate(LEVELS):
        chosen = sample.levels == level
        if bool(chosen.any()):
            rows[level_name] = measure_fidelity(autoencoder, sample.embeddings[chosen], pca_baseline)
    sources = sorted(set(sample.sources))
    for source in sources if len(sources) > 1 else ():
        chosen_rows = [index for index, other in enumerate(sample.sources) if other == source]
        rows[source] = measure_fidelity(autoencoder, sample.embeddings[chosen_rows], pca_baseline)
    return rows
