"""LERF's relevancy score of a text against an embedding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError

DEFAULT_NEGATIVES: tuple[str, ...] = ("object", "things", "stuff", "texture")
"""The canonical texts of LERF and LangSplat that every query competes with."""

DEFAULT_TEMPERATURE = 10.0
"""The factor LERF multiplies cosines with before the softmax."""


def relevancy(
    embeddings: Float[Tensor, "*batch embedding_dim"],
    positives: Float[Tensor, "num_texts embedding_dim"],
    negatives: Float[Tensor, "num_negatives embedding_dim"],
    temperature: float = DEFAULT_TEMPERATURE,
) -> Float[Tensor, "*batch num_texts"]:
    """Scores every embedding against every text, in [0, 1].

    LERF defines the score as the smallest, over the negatives, of the two-way softmax between text and negative. A
    two-way softmax is the sigmoid of the difference of the logits and grows with it, so the smallest one belongs to the
    negative with the largest cosine: one sigmoid per text suffices, it cannot overflow, and no (texts x negatives)
    array is made.

    Args:
        embeddings: Unit vectors of image content.
        positives: Unit vectors of the texts asked for.
        negatives: Unit vectors of the canonical texts.
        temperature: Factor on the cosines; larger is sharper.

    Raises:
        GenLangSplatError: Without a negative, or with a temperature that is not positive.
    """
    return relevancy_of_cosines(embeddings @ positives.T, embeddings @ negatives.T, temperature)


def relevancy_of_cosines(
    positives: Float[Tensor, "*batch num_texts"],
    negatives: Float[Tensor, "*batch num_negatives"],
    temperature: float = DEFAULT_TEMPERATURE,
) -> Float[Tensor, "*batch num_texts"]:
    """`relevancy`, given the cosines of embeddings with texts and with negatives."""
    if negatives.shape[-1] == 0:
        raise GenLangSplatError(
            f"Found no negative text; relevancy compares with at least one. Use the default {list(DEFAULT_NEGATIVES)}."
        )
    if not temperature > 0:
        raise GenLangSplatError(f"Found a relevancy temperature of {temperature}; it must be positive (LERF's is 10).")
    return torch.sigmoid(temperature * (positives - negatives.amax(dim=-1, keepdim=True)))
