"""Labels every Gaussian with one class and one instance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.classes import check_class_count, classify_gaussians
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.instances import find_instances
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.language.settings import LabelSettings

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class GaussianLabels:
    """The class and the instance of every Gaussian. Tensors are on the CPU."""

    class_ids: Int64[Tensor, " num_gaussians"]
    """Number of the text from 1; 0 for unlabeled Gaussians."""
    instance_ids: Int64[Tensor, " num_gaussians"]
    """Number of the instance in the scene from 1; 0 for Gaussians in none."""
    scores: Float[Tensor, " num_gaussians"]
    """Relevancy of the best text."""


def label_query(texts: Sequence[str], settings: LabelSettings) -> TextQuery:
    """Makes the query of the classes; equal texts are one class.

    Raises:
        GenLangSplatError: There are no texts or too many, or a text cannot be queried.
    """
    distinct = tuple(dict.fromkeys(texts))
    check_class_count(len(distinct))
    return TextQuery(distinct, negatives=settings.negatives, temperature=settings.temperature, prompts=settings.prompts)


def label_field(
    field: LanguageField, sizes: Float[Tensor, " num_gaussians"], query: EmbeddedQuery, settings: LabelSettings
) -> GaussianLabels:
    """Labels the Gaussians of a field; `sizes` are their largest standard deviations.

    Raises:
        GenLangSplatError: No Gaussian gets a class.
    """
    classified = classify_gaussians(field, query, settings.level, settings.threshold)
    found = torch.bincount(classified.class_ids, minlength=len(query.query.texts) + 1)
    absent = [text for text, count in zip(query.query.texts, found[1:].tolist(), strict=True) if count == 0]
    if len(absent) == len(query.query.texts):
        raise GenLangSplatError(
            f"No Gaussian is labeled: none of the {len(absent):,} texts is above a relevancy of {settings.threshold} "
            f"anywhere; the highest is {float(classified.scores.max()):.3f}. Lower --threshold, or give other texts."
        )
    if absent:
        LOGGER.warning("No Gaussian is labeled with %s.", ", ".join(f'"{text}"' for text in absent))
    instances = find_instances(field.means, sizes, field.opacities, classified.class_ids, settings)
    return GaussianLabels(classified.class_ids, instances, classified.scores)
