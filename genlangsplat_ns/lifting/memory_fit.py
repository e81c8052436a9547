"""Fitting a scene's memory in closed form, right after lifting, from the regions of all training views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.attention import KeyTable, attend, weighted_sums
from genlangsplat_ns.language.memory import SceneMemory, prior_of
from genlangsplat_ns.language.relevancy import DEFAULT_TEMPERATURE
from genlangsplat_ns.lifting.average import RegionConsensus, RegionView, Trust
from genlangsplat_ns.lifting.residuals import composite_latents

AGREEMENT_POWER, REGION_WEIGHT_POWER = 2.0, 0.25
"""Powers of the agreement, the cosine between what all views say of a region and what it says itself, and of its weight
in the robust rounds of lifting, in the trust in a region."""

LEAST_AGREEMENT = 0.1
"""A region that contradicts all views counts as if it agreed so much, so that a scene of such regions has a memory."""

NUM_KEYS = (128, 256, 512, 1024)
"""Numbers of keys to choose from; a scene with fewer regions gets one key each at most."""

CONCENTRATIONS = (60.0, 90.0, 120.0)
"""Concentrations to choose from."""

JUDGING_SHARE = 0.6
"""A choice is judged by this part of the left-out area, which it explains best: what it cannot explain may be wrong."""

CLEAR_GAIN, EQUAL_EVIDENCE = 0.05, 0.1
"""Differences of evidence that are clear, and that are none."""

LEFT_OUT_EVERY = 5
"""One view in so many is left out while number and concentration are chosen."""

MAX_JUDGED = 1024
"""Regions of left-out views that a choice is judged by."""

MAX_CLUSTERED = 32_768
"""Regions that the keys are placed by; all regions count in the values."""

ROUNDS = 12
"""Rounds of k-means."""


@dataclass(frozen=True, eq=False)
class SeenRegions:
    """What regions mean, and where the scene files it.

    Attributes:
        consensus: What all views together say of a region: the direction of the rendered latents of its pixels, summed;
            zero where they show nothing.
        embeddings: What the encoder said of it.
        samples: The rendered latents of one of its pixels, drawn at random.
        areas: How many of its pixels show anything.
        trusts: How far to believe the encoder there, from 0 to 1: region weight of the robust rounds, and agreement.
        views: The number of its view.
    """

    consensus: Float[Tensor, "num_regions latent_dim"]
    embeddings: Float[Tensor, "num_regions embedding_dim"]
    samples: Float[Tensor, "num_regions latent_dim"]
    areas: Float[Tensor, " num_regions"]
    trusts: Float[Tensor, " num_regions"]
    views: Int64[Tensor, " num_regions"]

    def __len__(self) -> int:
        return len(self.views)

    def weights(self, trusting: bool) -> Float[Tensor, " num_regions"]:
        """How much each region counts: by its area, or by the trust in it as well."""
        return self.areas * self.trusts if trusting else self.areas

    def chosen(self, rows: Tensor) -> SeenRegions:
        """Some of the regions."""
        return SeenRegions(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    @classmethod
    def gather(
        cls, consensus: Sequence[RegionConsensus], region_weights: Trust | None, names: Sequence[str] = ()
    ) -> SeenRegions:
        """Gathers the regions of all views, on the CPU.

        Args:
            consensus: What the views together say of the regions of each.
            region_weights: How much each region counted in lifting; None for all alike.
            names: What messages call the views.

        Raises:
            GenLangSplatError: There is no view, or an embedding is missing or not finite.
        """
        if not consensus:
            raise GenLangSplatError("Found no view to fit a scene's memory to, expected the training views.")
        parts = []
        for number, view in enumerate(consensus):
            name = names[number] if names else f"view {number}"
            believed = torch.ones_like(view.areas) if region_weights is None else region_weights[number].to(view.areas)
            agreements = view.agreements.clamp_min(LEAST_AGREEMENT)
            parts.append(
                cls(
                    consensus=view.latents.cpu(),
                    embeddings=_unit_embeddings(view, name).cpu(),
                    samples=view.samples.cpu(),
                    areas=view.areas.cpu(),
                    trusts=(believed**REGION_WEIGHT_POWER * agreements**AGREEMENT_POWER).cpu(),
                    views=torch.full((len(view.areas),), number),
                )
            )
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__})


@torch.no_grad()
def see_regions(
    views: Iterable[RegionView],
    latents: Float[Tensor, "num_gaussians levels latent_dim"],
    region_weights: Trust | None,
) -> SeenRegions:
    """Looks at the regions of views, in one pass over them; robust lifting has done it already.

    Args:
        views: Views that carry embeddings; small ones do.
        latents: What lifting gave the Gaussians.
        region_weights: How much each region of each view counted in lifting; None for all alike.

    Raises:
        GenLangSplatError: There is no view, or an embedding is missing or not finite.
    """
    seen = [(view.consensus(composite_latents(view, latents)), view.name) for view in views]
    return SeenRegions.gather([consensus for consensus, _ in seen], region_weights, [name for _, name in seen])


def _unit_embeddings(view: RegionConsensus, name: str) -> Float[Tensor, "num_regions embedding_dim"]:
    if view.embeddings.shape[1] == 0 and len(view.embeddings) > 0:
        raise GenLangSplatError(f"The regions of {name} have no embeddings, which a scene's memory is made of.")
    broken = int((~view.embeddings.isfinite().all(dim=-1)).sum())
    if broken:
        raise GenLangSplatError(
            f"{broken} of the {len(view.embeddings)} embeddings of {name} hold NaN or infinity, expected unit "
            "vectors. Extract the view again."
        )
    return F.normalize(view.embeddings.float(), dim=-1).half()


@dataclass(frozen=True)
class MemoryChoice:
    """What a memory could be like."""

    trusting: bool
    """Whether the trust in regions counts, or their area alone. Embeddings that differ from view to view by right are
    all worth keeping, and those of wrong masks are not."""
    num_keys: int
    """How many keys at most."""
    concentration: float
    """How quickly the weight of a key falls with its angle."""
    evidence: float
    """Mean logarithm of the chance with which LERF's softmax tells a region of a left-out view from all others there,
    by what a pixel of it is decoded to; over the `JUDGING_SHARE` of the area with the highest. A mean cosine would not
    see that two small things have become one."""


@torch.no_grad()
def fit_memory(regions: SeenRegions, encoder: str, seed: int = 0) -> SceneMemory:
    """Fits the memory of a scene.

    Number of keys and concentration are those that predict the regions of left-out views best.

    Args:
        regions: The regions of all training views.
        encoder: Identity of the encoder of their embeddings.
        seed: Seeds the first keys.

    Raises:
        GenLangSplatError: No region shows anything.
    """
    shown = (regions.areas > 0) & regions.consensus.any(dim=-1)
    if not bool(shown.any()):
        raise GenLangSplatError(
            f"None of the {len(regions)} regions shows a Gaussian with a latent, so the scene has nothing to remember. "
            "Look at the masks with gen-langsplat extract, or train the RGB phase longer."
        )
    regions = regions.chosen(shown)
    best = choose_memory(judge_memories(regions, seed))
    keys, log_masses, values = make_keys(regions, regions.weights(best.trusting), best.num_keys, seed)
    return SceneMemory(keys, log_masses, values, best.concentration, encoder)


def choose_memory(choices: Sequence[MemoryChoice]) -> MemoryChoice:
    """Takes the simplest of the choices that are about as good as the best.

    Trust in regions counts only where it clearly helps, because it also leaves out what is rare by right. Fewer keys
    and a lower concentration average over more regions.
    """
    best = {trusting: max(choice.evidence for choice in choices if choice.trusting == trusting) for trusting in (0, 1)}
    trusting = best[1] > best[0] + CLEAR_GAIN
    enough = best[trusting] - EQUAL_EVIDENCE
    good = [choice for choice in choices if choice.trusting == trusting and choice.evidence >= enough]
    return min(good, key=lambda choice: (choice.concentration, choice.num_keys))


@torch.no_grad()
def judge_memories(regions: SeenRegions, seed: int = 0) -> list[MemoryChoice]:
    """Tries trust, numbers of keys and concentrations on left-out views.

    Where there are not enough views to leave one out, every region is judged by the memory it is part of.
    """
    left_out = regions.views % LEFT_OUT_EVERY == LEFT_OUT_EVERY - 1
    if not bool(left_out.any()) or bool(left_out.all()):
        left_out = torch.ones_like(left_out)
        kept = regions
    else:
        kept = regions.chosen(~left_out)
    judged = regions.chosen(left_out)
    if len(judged) > MAX_JUDGED:
        judged = judged.chosen(torch.linspace(0, len(judged) - 1, MAX_JUDGED).long())
    embeddings, shares = judged.embeddings.float(), judged.areas / judged.areas.sum()
    odds = shares.log()
    # All regions together may get more keys than there are regions in the views that are kept.
    numbers = [number for before, number in zip((0, *NUM_KEYS), NUM_KEYS, strict=False) if before < len(kept)]
    choices = []
    for trusting, num_keys in product((False, True), numbers):
        keys, log_masses, values = make_keys(kept, kept.weights(trusting), num_keys, seed)
        for concentration in CONCENTRATIONS:
            table = KeyTable.of(keys, log_masses, values, concentration, prior_of(concentration))
            found = attend(table, judged.samples)
            decoded = F.normalize(weighted_sums(found.indices, found.weights, values), dim=-1)
            logits = DEFAULT_TEMPERATURE * decoded @ embeddings.T
            evidence = logits.diagonal() - torch.logsumexp(logits + odds, dim=1)
            explained = evidence.argsort(descending=True)
            # The best one counts in any case.
            explained = explained[: 1 + int((shares[explained].cumsum(0) <= JUDGING_SHARE).sum())]
            mean = (shares[explained] * evidence[explained]).sum() / shares[explained].sum()
            choices.append(MemoryChoice(trusting, num_keys, concentration, float(mean)))
    return choices


def make_keys(
    regions: SeenRegions, weights: Float[Tensor, " num_regions"], num_keys: int, seed: int = 0
) -> tuple[Float[Tensor, "num_keys latent_dim"], Float[Tensor, " num_keys"], Float[Tensor, "num_keys embedding_dim"]]:
    """Clusters regions by their consensus, and averages what the encoder said of each cluster.

    Args:
        regions: The regions.
        weights: How much each counts.
        num_keys: How many clusters at most.
        seed: Seeds the first keys.

    Returns:
        Unit keys, the logarithm of the share of each in all weights, and the mean embeddings, which are the shorter
        the more the regions of a key differ.
    """
    keys = spherical_kmeans(regions.consensus, weights, num_keys, seed)
    owners = nearest_keys(regions.consensus, keys)
    masses = torch.zeros(len(keys)).index_add_(0, owners, weights)
    sums = torch.zeros(len(keys), regions.embeddings.shape[1])
    for rows in torch.arange(len(regions)).split(MAX_CLUSTERED):
        sums.index_add_(0, owners[rows], weights[rows, None] * regions.embeddings[rows].float())
    kept = masses > 0
    return keys[kept], (masses[kept] / masses.sum()).log(), sums[kept] / masses[kept, None]


def spherical_kmeans(
    vectors: Float[Tensor, "count dim"], weights: Float[Tensor, " count"], num_keys: int, seed: int = 0
) -> Float[Tensor, "num_keys dim"]:
    """Unit directions that represent unit vectors: k-means by cosine from a k-means++ start.

    Args:
        vectors: Unit vectors.
        weights: How much each counts.
        num_keys: How many directions at most; fewer where fewer vectors differ.
        seed: Seeds the start.
    """
    generator = torch.Generator().manual_seed(seed)
    if len(vectors) > MAX_CLUSTERED:
        rows = torch.randperm(len(vectors), generator=generator)[:MAX_CLUSTERED]
        vectors, weights = vectors[rows], weights[rows]
    drawn = torch.rand(num_keys, generator=generator, dtype=torch.float64)
    distances = torch.ones(len(vectors), dtype=torch.float64)
    chosen: list[int] = []
    for share in drawn.tolist():
        odds = (distances * weights).cumsum(0)
        if not float(odds[-1]) > 0:
            break
        row = min(int(torch.searchsorted(odds, share * float(odds[-1]), right=True)), len(vectors) - 1)
        chosen.append(row)
        distances = torch.minimum(distances, (1 - vectors @ vectors[row]).clamp_min(0).double())
        distances[distances < 1e-6] = 0.0
    keys = vectors[chosen]
    for _ in range(ROUNDS):
        owners = nearest_keys(vectors, keys)
        sums = torch.zeros_like(keys).index_add_(0, owners, weights[:, None] * vectors)
        moved = torch.where(sums.norm(dim=-1, keepdim=True) > 0, F.normalize(sums, dim=-1), keys)
        if torch.equal(moved, keys):
            break
        keys = moved
    return keys


def nearest_keys(vectors: Float[Tensor, "count dim"], keys: Float[Tensor, "num_keys dim"]) -> Int64[Tensor, " count"]:
    """The key with the greatest cosine to each vector, the first on ties."""
    return torch.cat([(rows @ keys.T).argmax(dim=1) for rows in vectors.split(4096)])
