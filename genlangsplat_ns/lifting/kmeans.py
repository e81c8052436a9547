"""Spherical k-means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

MAX_CLUSTERED = 32_768
"""Number of vectors that the directions are fitted to; a random sample of more vectors is used."""

ITERATIONS = 12


def spherical_kmeans(
    vectors: Float[Tensor, "count dim"], weights: Float[Tensor, " count"], num_keys: int, seed: int = 0
) -> Float[Tensor, "num_keys dim"]:
    """Finds unit directions that represent unit vectors: k-means by cosine with a k-means++ start.

    There are at most `num_keys` directions, and fewer if fewer vectors differ.
    """
    generator = torch.Generator().manual_seed(seed)
    if len(vectors) > MAX_CLUSTERED:
        rows = torch.randperm(len(vectors), generator=generator)[:MAX_CLUSTERED]
        vectors, weights = vectors[rows], weights[rows]
    drawn = torch.rand(num_keys, generator=generator, dtype=torch.float64)
    distances = torch.ones(len(vectors), dtype=torch.float64)
    chosen: list[int] = []
    for share in drawn.tolist():
        cumulative = (distances * weights).cumsum(0)
        if not float(cumulative[-1]) > 0:
            break
        row = min(int(torch.searchsorted(cumulative, share * float(cumulative[-1]), right=True)), len(vectors) - 1)
        chosen.append(row)
        distances = torch.minimum(distances, (1 - vectors @ vectors[row]).clamp_min(0).double())
        distances[distances < 1e-6] = 0.0
    keys = vectors[chosen]
    for _ in range(ITERATIONS):
        owners = nearest_keys(vectors, keys)
        sums = torch.zeros_like(keys).index_add_(0, owners, weights[:, None] * vectors)
        moved = torch.where(sums.norm(dim=-1, keepdim=True) > 0, F.normalize(sums, dim=-1), keys)
        if torch.equal(moved, keys):
            break
        keys = moved
    return keys


def nearest_keys(vectors: Float[Tensor, "count dim"], keys: Float[Tensor, "num_keys dim"]) -> Int64[Tensor, " count"]:
    """Index of the key with the largest cosine to each vector; the first one on ties."""
    return torch.cat([(rows @ keys.T).argmax(dim=1) for rows in vectors.split(4096)])
