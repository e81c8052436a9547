"""Fidelity of compressed embeddings, compared to principal components of the same width."""

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
"""Latent usage below which the latents have collapsed."""


@dataclass(frozen=True)
class PcaBaseline:
    """Baselines fitted on training embeddings or a sample of them: their mean and their principal components."""

    fitted_on: Float[Tensor, "fitted embedding_dim"]

    @cached_property
    def mean(self) -> Float[Tensor, " embedding_dim"]:
        """Mean of the embeddings. Centered cosines subtract it, because it can have a high cosine by itself."""
        return self.fitted_on.mean(dim=0)

    @cached_property
    def _directions(self) -> Float[Tensor, "embedding_dim embedding_dim"]:
        centered = (self.fitted_on - self.mean).double()
        return torch.linalg.eigh(centered.T @ centered)[1].flip(dims=(1,)).float()

    def pca(self, embeddings: Float[Tensor, "count embedding_dim"], latent_dim: int) -> Tensor:
        """Reconstructs embeddings from `latent_dim` principal components, normalized."""
        basis = self._directions[:, :latent_dim]
        return F.normalize((embeddings - self.mean) @ basis @ basis.T + self.mean, dim=-1)


def fidelity(
    reconstructions: Float[Tensor, "count embedding_dim"],
    embeddings: Float[Tensor, "count embedding_dim"],
    pca_baseline: PcaBaseline,
) -> dict[str, float]:
    """Computes mean squared error, cosine, and cosine after subtracting the mean of the training embeddings.

    Between unit vectors of width E the mean squared error is 2 (1 - cosine) / E.
    """
    centered = F.cosine_similarity(reconstructions - pca_baseline.mean, embeddings - pca_baseline.mean, dim=-1)
    return {
        "mse": float((reconstructions - embeddings).square().mean()),
        "cosine": float(F.cosine_similarity(reconstructions, embeddings, dim=-1).mean()),
        "centered cosine": float(centered.mean()),
    }


@torch.no_grad()
def reconstruction_cosine(autoencoder: Autoencoder, embeddings: Float[Tensor, "count embedding_dim"]) -> float:
    """Returns the mean cosine between embeddings and their reconstructions."""
    return float(F.cosine_similarity(autoencoder(embeddings), embeddings, dim=-1).mean())


def latent_usage(latents: Float[Tensor, "count latent_dim"]) -> float:
    """Returns the participation ratio of the latent variances divided by D, between 1/D and 1.

    Below `COLLAPSED` the latents have collapsed: they use few of their dimensions.
    """
    variances = torch.linalg.eigvalsh(torch.cov(latents.double().T).reshape(latents.shape[1], -1)).clamp(min=0)
    total = variances.sum()
    return float(total**2 / variances.square().sum().clamp(min=1e-30) / latents.shape[1]) if total > 0 else 0.0


@torch.no_grad()
def measure_fidelity(
    autoencoder: Autoencoder, embeddings: Float[Tensor, "count embedding_dim"], pca_baseline: PcaBaseline
) -> dict[str, float]:
    """Measures the fidelity of an autoencoder, and of a constant and a PCA fitted on the training embeddings."""
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
    """Measures a sample in total, per level, and per source if there are several."""
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
