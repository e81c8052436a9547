"""LERF's relevancy: the score of a text against an embedding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.settings import DEFAULT_TEMPERATURE


def relevancy_of_cosines(
    positives: Float[Tensor, "*batch num_texts"],
    negatives: Float[Tensor, "*batch num_negatives"],
    temperature: float = DEFAULT_TEMPERATURE,
) -> Float[Tensor, "*batch num_texts"]:
    """Scores every embedding against every text, in [0, 1].

    LERF defines the score as the minimum, over the negatives, of the two-way softmax between text and negative. A
    two-way softmax is the sigmoid of the difference of the logits and increases with it, so the minimum belongs to the
    negative with the largest cosine. One sigmoid per text suffices; it cannot overflow and needs no (texts x negatives)
    array.

    `positives` are cosines of embeddings with the texts, `negatives` with the canonical texts. The temperature is a
    positive factor on the cosines; larger is sharper.
    """
    return torch.sigmoid(temperature * (positives - negatives.amax(dim=-1, keepdim=True)))
