"""Selecting Gaussians in space by their own relevancy, for the protocols that render the selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.evaluation.protocols import SelectionProtocol
from genlangsplat_ns.language.query import EmbeddedQuery, score_latents
from genlangsplat_ns.levels import LEVELS

MAX_SCORES = 100_000_000
"""Relevancies held at a time; more texts than that allows are scored in batches, each of which decodes anew."""


@dataclass(frozen=True, eq=False)
class GaussianSelection:
    """The Gaussians that answer a text.

    Attributes:
        level: The level they were selected at.
        score: The highest relevancy of any Gaussian.
        selected: Which ones.
    """

    level: str
    score: float
    selected: Bool[Tensor, " num_gaussians"]


@torch.no_grad()
def select_gaussians(
    latents: Float[Tensor, "num_gaussians levels latent_dim"],
    decode: Callable[[Tensor], Tensor],
    query: EmbeddedQuery,
    protocol: SelectionProtocol,
) -> list[GaussianSelection]:
    """Selects Gaussians for every text of a query.

    Args:
        latents: Latents of the Gaussians; zero ones answer nothing.
        decode: Maps unit latents (count, latent_dim) to embeddings (count, embedding_dim).
        query: The embedded query.
        protocol: The rules.
    """
    count, levels, _ = latents.shape
    batch = max(1, MAX_SCORES // max(1, count * levels))
    selections = []
    for start in range(0, len(query.query.texts), batch):
        part = subset(query, range(len(query.query.texts))[start : start + batch])
        scores = score_latents(latents.flatten(end_dim=1), decode, part).unflatten(0, (count, levels))
        peaks = scores.amax(dim=0)
        for index, level in enumerate(peaks.argmax(dim=0).tolist()):
            selected = scores[:, level, index] > protocol.threshold
            selections.append(GaussianSelection(LEVELS[level], float(peaks[level, index]), selected))
    return selections


def subset(query: EmbeddedQuery, indices: Sequence[int]) -> EmbeddedQuery:
    """The query with only some of its texts."""
    chosen = replace(query.query, texts=tuple(query.query.texts[index] for index in indices))
    return EmbeddedQuery(chosen, query.positives[list(indices)], query.negatives)
