"""Fidelity of compressed embeddings, compared to principal components of the same width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from genlangsplat_ns.language.autoencoder import Autoencoder
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.console import CONSOLE
from pretrain.scene_files import RowSample

COLLAPSED = 0.05
"""Latent spread below which the latents have collapsed: a few steps of an 8-bit number."""

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


@torch.no_grad()
def reconstruction_cosine(autoencoder: Autoencoder, embeddings: Float[Tensor, "count embedding_dim"]) -> float:
    """Returns the mean cosine between embeddings and their reconstructions."""
    return float(F.cosine_similarity(autoencoder(embeddings), embeddings, dim=-1).mean())


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
    """Measures a sample in total, per level, and per source if there are several."""
    parts = {name: torch.ones(len(sample.levels), dtype=torch.bool)}
    parts |= {level_name: sample.levels == level for level, level_name in enumerate(LEVELS)}
    sources = sorted(set(sample.sources))
    for source in sources if len(sources) > 1 else ():
        parts[source] = torch.tensor([other == source for other in sample.sources])
    return {
        part: measure_fidelity(autoencoder, sample.embeddings[chosen], pca_baseline)
        for part, chosen in parts.items()
        if bool(chosen.any())
    }


def problem_of(figures: Mapping[str, float]) -> str | None:
    """Returns why an autoencoder with these figures should not be used, or None.

    Its latents must differ from each other, and it must reconstruct clearly more than the mean of the embeddings: at
    least half of what as many principal components keep.
    """
    if figures["latent spread"] < COLLAPSED:
        return (
            f"its latents collapsed: their distance from their mean is {figures['latent spread']:.2g}, expected at "
            f"least {COLLAPSED}"
        )
    if figures["cosine"] <= figures["constant"] or figures["centered cosine"] < figures["PCA centered"] / 2:
        return (
            f"it is unfaithful: its cosine is {figures['cosine']:.3f} ({figures['centered cosine']:.3f} without the "
            f"mean), a constant has {figures['constant']:.3f}, and a PCA of the same width {figures['PCA cosine']:.3f} "
            f"({figures['PCA centered']:.3f})"
        )
    return None


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


def show_fidelity(title: str, heading: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a table of measurements, and warnings for unusable rows; all rows must have the same figures."""
    columns = list(next(iter(rows.values())))
    table = Table(heading, *columns, title=title)
    for name, row in rows.items():
        table.add_row(name, *(f"{row[column]:.2e}" if column == "mse" else f"{row[column]:.3f}" for column in columns))
    CONSOLE.print(table)
    for name, row in rows.items():
        if (problem := problem_of(row)) is not None:
            CONSOLE.print(f"[yellow]{name}: {problem}.")
