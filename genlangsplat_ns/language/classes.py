"""Gives every Gaussian the one text that fits it best, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.gaussian_scores import DecodedGaussians
from genlangsplat_ns.language.query import EmbeddedQuery
from genlangsplat_ns.language.settings import MAX_CLASSES, LabelLevel
from genlangsplat_ns.levels import LEVELS

MAX_CLASS_SCORES = 20_000_000
"""Maximum number of scores (Gaussians x levels x texts) at a time, 80 MB; some copies of them exist briefly."""

MAX_ROWS = 65_536
"""Maximum number of Gaussians at a time, whose decoded latents are in memory too."""


@dataclass(frozen=True, eq=False)
class ClassifiedGaussians:
    """The best text of every Gaussian. Tensors are on the CPU."""

    class_ids: Int64[Tensor, " num_gaussians"]
    """Number of the text from 1, or 0 where no text is above the threshold or no region was ever seen."""
    scores: Float[Tensor, " num_gaussians"]
    """Relevancy of the best text; 0 where no region was ever seen."""


def check_class_count(count: int) -> None:
    """Checks that the numbers of so many classes fit into two bytes.

    Raises:
        GenLangSplatError: There are more than `MAX_CLASSES`.
    """
    if count > MAX_CLASSES:
        raise GenLangSplatError(
            f"Found {count:,} classes; class numbers have two bytes, so at most {MAX_CLASSES:,} fit. Give fewer texts."
        )


@torch.no_grad()
def classify_gaussians(
    field: LanguageField, query: EmbeddedQuery, level: LabelLevel, threshold: float
) -> ClassifiedGaussians:
    """Finds the best text of every Gaussian; the first of equal ones counts.

    The Gaussians are decoded and scored in chunks and nothing is cached, so memory does not grow with the number of
    texts times the number of Gaussians.

    Raises:
        GenLangSplatError: There are too many texts.
    """
    count, (num_gaussians, num_levels) = len(query.query.texts), field.latents.shape[:2]
    check_class_count(count)
    rows = max(1, min(MAX_ROWS, MAX_CLASS_SCORES // (num_levels * count)))
    class_ids, scores = torch.zeros(num_gaussians, dtype=torch.int64), torch.zeros(num_gaussians)
    for first in range(0, num_gaussians, rows):
        chunk = slice(first, first + rows)
        decoded = DecodedGaussians(field.latents[chunk], field.decode)
        best, text = _joined(decoded.score(query), level).max(dim=1)
        class_ids[chunk] = torch.where(best > threshold, text + 1, 0).cpu()
        scores[chunk] = best.cpu()
    return ClassifiedGaussians(class_ids, scores)


def _joined(scores: Float[Tensor, "count levels num_texts"], level: LabelLevel) -> Float[Tensor, "count num_texts"]:
    """Combines the scores of the levels; levels without a region score 0 and do not count."""
    if level == "highest":
        return scores.amax(dim=1)
    if level == "mean":
        return scores.sum(dim=1) / (scores > 0).sum(dim=1).clamp(min=1)
    return scores[:, LEVELS.index(level)]
