"""Finds photographs that show the same things by their features, with a vocabulary made from the photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from genlangsplat_ns.photographs.pairs import Pair, nearest_pairs

WORDS = 64
"""Number of clusters of features."""

SAMPLED = 200
"""Number of features of a photograph from which the clusters are made."""

Descriptors = UInt8[np.ndarray, "_ 128"]


def similar_pairs(descriptors: Sequence[Descriptors]) -> set[Pair]:
    """Returns the pairs of each photograph with those whose features are most similar as a whole (VLAD)."""
    indices = [index for index, rows in enumerate(descriptors) if len(rows)]
    if len(indices) < 2:
        return set()
    signatures = _signatures([descriptors[index] for index in indices])
    return nearest_pairs(signatures @ signatures.T, indices)


def _signatures(features: Sequence[Descriptors]) -> Float32[np.ndarray, "count values"]:
    """Sums the differences of features to the nearest cluster center: one unit vector per photograph."""
    # One photograph at a time, because all descriptors as float32 are gigabytes.
    from sklearn.cluster import MiniBatchKMeans

    generator = np.random.default_rng(0)
    sample = _scaled(np.concatenate([rows[generator.permutation(len(rows))[:SAMPLED]] for rows in features]))
    words = min(WORDS, len(sample))
    clusters = MiniBatchKMeans(words, random_state=0, n_init=1).fit(sample)
    centers = clusters.cluster_centers_.astype(np.float32)
    signatures = np.zeros((len(features), words, 128), np.float32)
    for signature, rows in zip(signatures, map(_scaled, features), strict=True):
        nearest = clusters.predict(rows)
        np.add.at(signature, nearest, rows - centers[nearest])
        # Without this, a pattern that repeats outweighs everything else.
        signature /= np.linalg.norm(signature, axis=1, keepdims=True) + 1e-9
    flat = signatures.reshape(len(features), -1)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9)


def _scaled(descriptors: Descriptors) -> Float32[np.ndarray, "_ 128"]:
    return descriptors.astype(np.float32) / 255
