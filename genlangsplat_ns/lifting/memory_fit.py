"""Closed-form fit of a scene's memory to the regions of all training views, right after lifting.

The keys are clusters of consensus latents, the values are mean embeddings. The number of keys, the concentration and
the weights of the regions are selected by the log-likelihood of left-out views.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.attention import KeyTable, attend, weighted_sums
from genlangsplat_ns.language.memory import SceneMemory, prior_of
from genlangsplat_ns.language.settings import DEFAULT_TEMPERATURE
from genlangsplat_ns.lifting.kmeans import nearest_keys, spherical_kmeans
from genlangsplat_ns.lifting.memory_regions import MemoryRegions

LOGGER = logging.getLogger(__name__)

ALIKE = 1e-4
"""Unit vectors are the same if the norm of their mean is this close to 1; half precision alone makes 1e-6 of it."""

NUM_KEYS = (128, 256, 512, 1024)
"""Candidate numbers of keys; a scene with fewer regions gets at most one key each."""

CONCENTRATIONS = (60.0, 90.0, 120.0)

SCORED_SHARE = 0.6
"""The log-likelihood covers this share of the left-out area, the best explained part: the rest may be wrong."""

CLEAR_GAIN, EQUAL_LIKELIHOOD = 0.05, 0.1
"""A difference in log-likelihood above the first is a clear gain; one up to the second counts as equal."""

LEFT_OUT_EVERY = 5
"""One in this many views is left out while the candidates are scored."""

MAX_SCORED = 1024
"""Maximum number of left-out regions that score a candidate."""

CHUNK_ROWS = 32_768
"""Embeddings that are summed at once."""


@dataclass(frozen=True)
class MemoryCandidate:
    """Candidate hyperparameters of a memory, with their score."""

    use_reliability: bool
    """Whether regions are weighted by area and reliability, or by area alone.

    Reliability rejects wrong masks, but also embeddings that legitimately differ from view to view.
    """
    num_keys: int
    """Maximum number of keys."""
    concentration: float
    """How quickly the weight of a key falls with the angle to a latent."""
    log_likelihood: float
    """Mean log-probability of left-out regions, see `SCORED_SHARE`.

    It is the probability with which LERF's softmax identifies a left-out region among all of them, given the decoded
    latent of one of its pixels. Unlike a mean cosine, it drops when two small objects become one.
    """


@torch.no_grad()
def fit_memory(regions: MemoryRegions, encoder: str) -> SceneMemory:
    """Fits the memory of a scene with the hyperparameters that predict the regions of left-out views best.

    Raises:
        GenLangSplatError: No region has a rendered latent.
    """
    shown = (regions.areas > 0) & regions.consensus.any(dim=-1)
    if not bool(shown.any()):
        raise GenLangSplatError(
            f"None of the {len(regions)} regions shows a Gaussian with a latent, so there is nothing to fit a memory "
            "to. Look at the masks with gen-langsplat extract, or train the RGB phase longer."
        )
    regions = regions.select(shown)
    _warn_of_equal_embeddings(regions.embeddings)
    best = select_candidate(score_candidates(regions))
    keys, log_masses, values = make_keys(regions, regions.weights(best.use_reliability), best.num_keys)
    return SceneMemory(keys, log_masses, values, best.concentration, encoder)


def _warn_of_equal_embeddings(embeddings: Float[Tensor, "num_regions embedding_dim"]) -> None:
    """Warns if all regions look alike to the encoder, so that all texts have the same answer everywhere."""
    mean = F.normalize(embeddings.float(), dim=1).mean(dim=0)
    if len(embeddings) > 1 and float(mean.norm()) > 1 - ALIKE:
        LOGGER.warning(
            "The embeddings of all %d regions are the same, so every text has the same answer everywhere. Probably the "
            "photographs show nothing, or the weights of the encoder are damaged. Look at the features with "
            "gen-langsplat extract --preview.",
            len(embeddings),
        )


def select_candidate(candidates: Sequence[MemoryCandidate]) -> MemoryCandidate:
    """Selects the simplest candidate whose log-likelihood is close to the best.

    Reliability is used only where it is a clear gain, because it also suppresses legitimate rare embeddings. Lower
    concentrations and fewer keys are simpler: they average over more regions.
    """
    best = {used: max(c.log_likelihood for c in candidates if c.use_reliability == used) for used in (False, True)}
    use_reliability = best[True] > best[False] + CLEAR_GAIN
    threshold = best[use_reliability] - EQUAL_LIKELIHOOD
    good = [item for item in candidates if item.use_reliability == use_reliability and item.log_likelihood >= threshold]
    return min(good, key=lambda item: (item.concentration, item.num_keys))


@torch.no_grad()
def score_candidates(regions: MemoryRegions) -> list[MemoryCandidate]:
    """Scores all combinations of hyperparameters on left-out views.

    With too few views to leave one out, the candidates are scored on the regions that they are fitted to.
    """
    left_out = regions.views % LEFT_OUT_EVERY == LEFT_OUT_EVERY - 1
    if not bool(left_out.any()) or bool(left_out.all()):
        left_out = torch.ones_like(left_out)
        kept = regions
    else:
        kept = regions.select(~left_out)
    scored = regions.select(left_out)
    if len(scored) > MAX_SCORED:
        scored = scored.select(torch.linspace(0, len(scored) - 1, MAX_SCORED).long())
    embeddings, shares = scored.embeddings.float(), scored.areas / scored.areas.sum()
    log_priors = shares.log()
    # The kept views may have fewer regions than all views, and with them fewer keys.
    numbers = [number for before, number in zip((0, *NUM_KEYS), NUM_KEYS, strict=False) if before < len(kept)]
    candidates = []
    for use_reliability, num_keys in product((False, True), numbers):
        keys, log_masses, values = make_keys(kept, kept.weights(use_reliability), num_keys)
        for concentration in CONCENTRATIONS:
            table = KeyTable.of(keys, log_masses, values, concentration, prior_of(concentration))
            found = attend(table, scored.samples)
            decoded = F.normalize(weighted_sums(found.indices, found.weights, values), dim=-1)
            logits = DEFAULT_TEMPERATURE * decoded @ embeddings.T
            log_likelihoods = logits.diagonal() - torch.logsumexp(logits + log_priors, dim=1)
            best = log_likelihoods.argsort(descending=True)
            best = best[: 1 + int((shares[best].cumsum(0) <= SCORED_SHARE).sum())]
            mean = (shares[best] * log_likelihoods[best]).sum() / shares[best].sum()
            candidates.append(MemoryCandidate(use_reliability, num_keys, concentration, float(mean)))
    return candidates


def make_keys(
    regions: MemoryRegions, weights: Float[Tensor, " num_regions"], num_keys: int
) -> tuple[Float[Tensor, "num_keys latent_dim"], Float[Tensor, " num_keys"], Float[Tensor, "num_keys embedding_dim"]]:
    """Clusters regions into at most `num_keys` clusters by consensus, and averages the embeddings of each cluster.

    Returns unit keys, the logarithm of each key's share of all weights, and the mean embeddings. The more the regions
    of a key differ, the shorter its mean embedding.
    """
    keys = spherical_kmeans(regions.consensus, weights, num_keys)
    owners = nearest_keys(regions.consensus, keys)
    masses = torch.zeros(len(keys)).index_add_(0, owners, weights)
    sums = torch.zeros(len(keys), regions.embeddings.shape[1])
    for rows in torch.arange(len(regions)).split(CHUNK_ROWS):
        sums.index_add_(0, owners[rows], weights[rows, None] * regions.embeddings[rows].float())
    kept = masses > 0
    return keys[kept], (masses[kept] / masses.sum()).log(), sums[kept] / masses[kept, None]
