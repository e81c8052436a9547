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
from pretrain.scene_files import RowSample

TOP_SHARE = 0.05
"""Fraction of the regions that counts as the best ones of a text."""

Figures = dict[str, float]


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
) -> Figures:
    """Computes mean squared error, cosine, and cosine after subtracting the mean of the training embeddings.

    Between unit vectors of width E the mean squared error is 2 (1 - cosine) / E.
    """
    centered = F.cosine_similarity(reconstructions - pca_baseline.mean, embeddings - pca_baseline.mean, dim=-1)
    return {
        "mse": float((reconstructions - embeddings).square().mean()),
        "cosine": float(F.cosine_similarity(reconstructions, embeddings, dim=-1).mean()),
        "centered cosine": float(centered.mean()),
    }


def latent_spread(latents: Float[Tensor, "count latent_dim"]) -> float:
    """Returns the root mean square distance of the latents from their mean: 0 if all are equal, at most 1."""
    return float((latents.double() - latents.double().mean(dim=0)).square().sum(dim=1).mean().sqrt())


@torch.no_grad()
def measure_fidelity(
    autoencoder: Autoencoder, embeddings: Float[Tensor, "count embedding_dim"], pca_baseline: PcaBaseline
) -> Figures:
    """Measures the fidelity of an autoencoder, and of a constant and a PCA fitted on the training embeddings."""
    latents = autoencoder.encode(embeddings)
    components = fidelity(pca_baseline.pca(embeddings, autoencoder.identity.latent_dim), embeddings, pca_baseline)
    return {
        **fidelity(autoencoder.decode(latents), embeddings, pca_baseline),
        "PCA cosine": components["cosine"],
        "PCA centered": components["centered cosine"],
        "constant": float(F.cosine_similarity(pca_baseline.mean[None], embeddings, dim=-1).mean()),
        "latent spread": latent_spread(latents),
    }


def fidelity_rows(
    autoencoder: Autoencoder, sample: RowSample, pca_baseline: PcaBaseline, name: str = "held out"
) -> dict[str, Figures]:
    """Measures a sample in total, per level, and per source if there are several; a part needs two rows."""
    parts = {name: torch.ones(len(sample.levels), dtype=torch.bool)}
    parts |= {level_name: sample.levels == level for level, level_name in enumerate(LEVELS)}
    sources = sorted(set(sample.sources))
    for source in sources if len(sources) > 1 else ():
        parts[source] = torch.tensor([other == source for other in sample.sources])
    return {
        part: measure_fidelity(autoencoder, sample.embeddings[chosen], pca_baseline)
        for part, chosen in parts.items()
        # The latents of a single row have no spread.
        if part == name or int(chosen.sum()) > 1
    }


def top_overlap(
    before: Float[Tensor, "num_regions embedding_dim"],
    after: Float[Tensor, "num_regions embedding_dim"],
    texts: Float[Tensor, "num_texts embedding_dim"],
    share: float = TOP_SHARE,
) -> float:
    """Returns the fraction of each text's best regions that stay among its best ones, averaged over texts.

    The best ones are a share of the regions, at least one.
    """
    count = max(1, round(share * len(before)))
    best = [(regions @ texts.T).topk(count, dim=0).indices for regions in (before, after)]
    overlaps = [torch.isin(best[0][:, text], best[1][:, text]).float().mean() for text in range(len(texts))]
    return torch.stack(overlaps).mean().item()


@torch.no_grad()
def measure_ranking(
    autoencoder: Autoencoder,
    regions: Float[Tensor, "num_regions embedding_dim"],
    texts: Float[Tensor, "num_texts embedding_dim"],
    pca_baseline: PcaBaseline,
) -> dict[str, Figures]:
    """Measures how many of the best regions of each text stay the best: the top one and the top 5 %."""
    after = {
        "uncompressed": regions,
        "autoencoder": autoencoder(regions),
        "PCA": pca_baseline.pca(regions, autoencoder.identity.latent_dim),
    }
    shares = {"best region kept": 0.0, f"best {TOP_SHARE:.0%} kept": TOP_SHARE}
    return {
        name: {kind: top_overlap(regions, rows, texts, share) for kind, rows in after.items()}
        for name, share in shares.items()
    }
