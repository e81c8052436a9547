"""The health of a trained language field: four faults, each with one number, a threshold and a cure.

The thresholds lie between healthy runs and runs with one fault each, see `benchmarks/health.py`. Some faults hide
others: latents that collapsed are on no side of a border, and displaced latents are on the wrong one. Such a number is
reported without a judgment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from genlangsplat_ns.language.decoding import Decode
from genlangsplat_ns.lifting.health_measures import (
    Displacement,
    RenderedRegions,
    code_fidelity,
    discernment,
    displacement,
    effective_directions,
    mean_cosine_of_pairs,
    wrong_side_share,
)

MOST_WRONG = 0.38
"""Semantic bleeding: share of the pixels near borders that answer the neighbor. Healthy runs had 0.19 to 0.35."""

LEAST_DISCERNMENT = 0.35
"""Latent collapse: healthy runs had 0.56 and more."""

USUAL_DIRECTIONS = 0.3, 1.2
"""Effective directions of the latents relative to those of the regions; collapsed latents have fewer or more."""

FARTHEST = 0.03
"""Misalignment: mean displacement as a share of the longer side of a view. Healthy runs had up to 0.016."""

LEAST_FIDELITY = 0.75
"""Unfaithful code: mean cosine of embeddings and what the autoencoder makes of their latents. On photographs, the
packaged autoencoder has about 0.88, and one of another domain 0.3."""

LEAST_WITH_MEMORY = 0.65
"""The same with the memory, which holds no embeddings of held-out views, but similar ones: healthy runs had 0.77 to
0.88. If all regions have the same latent, the memory answers the mean of the scene, which had 0.60 in the gallery."""

GOOD_FIDELITY = 0.93
"""A lower cosine is said, without being a fault: the packaged autoencoder has less, and answers well."""

BLEEDING, COLLAPSE = "semantic bleeding", "latent collapse"
MISALIGNMENT, UNFAITHFUL = "geometry-semantic misalignment", "unfaithful code"
"""Names of the faults."""

MEANINGS = {
    "directions": "effective number of directions over which the latents of the Gaussians are spread, at most 16",
    "directions_of_regions": "the same number for the latents of the regions themselves",
    "cosine_of_decoded_pairs": "mean cosine of the decoded embeddings of two regions; 1 if all answer alike",
    "cosine_of_embedding_pairs": "the same for the embeddings from the encoder",
    "agreement": "mean cosine of rendered latents and those of the regions",
    "agreement_at_best_fit": "the same after the displacement of each tile that fits best",
    "agreement_at_depth_edges": "the agreement within two pixels of a step of the depth",
    "agreement_elsewhere": "the agreement in all other pixels",
    "agreement_near_training_cameras": "the agreement in that half of the held-out views that is nearest to a "
    "training camera",
    "agreement_far_from_training_cameras": "the agreement in the other half",
    "distance_near_training_cameras": "mean distance of the nearer half from a training camera, as a multiple of the "
    "distance between neighboring training cameras",
    "distance_far_from_training_cameras": "the same for the other half",
    "language_on_floaters": "share of the language on Gaussians that float in front of what the views show",
    "opaque_gaussians_without_latent": "share of the opaque Gaussians on which no region of any view was seen",
    "retrieval": "share of decoded embeddings that are nearest to their own one, of those of their view and level",
    "cosine_of_autoencoder": "the cosine if the autoencoder decodes instead of the memory",
    "retrieval_of_autoencoder": "the retrieval if the autoencoder decodes instead of the memory",
}
"""What the further numbers of the lines are, by their names."""

Comparison = Literal["at most", "at least"]


@dataclass(frozen=True)
class HealthLine:
    """One fault: whether a run has it, and what to do."""

    name: str
    """Name of the fault."""
    meaning: str
    """What the number is."""
    value: float | None
    """The number; None where it could not be measured."""
    comparison: Comparison
    """How a healthy number compares with the threshold."""
    threshold: float
    """The last healthy number."""
    cure: str
    """What to change, with the names of the settings."""
    hidden_by: str = ""
    """Why the number is not judged; empty if it is."""
    note: str = ""
    """What is said about the number although it is no fault."""
    details: dict[str, float] = field(default_factory=dict)
    """Further numbers by name."""

    @property
    def faulty(self) -> bool:
        """Whether the run has the fault."""
        if self.value is None or self.hidden_by:
            return False
        return self.value > self.threshold if self.comparison == "at most" else self.value < self.threshold

    def to_json(self) -> dict[str, Any]:
        """Returns the fields and the verdict as JSON values."""
        return {**asdict(self), "faulty": self.faulty}


@dataclass(frozen=True, eq=False)
class CodeSample:
    """Embeddings of regions, and the code that compresses them."""

    embeddings: Float[Tensor, "count embedding_dim"]
    """Embeddings from the encoder."""
    latents: Float[Tensor, "count latent_dim"]
    """Their latents."""
    groups: Int64[Tensor, " count"]
    """The number of the view and level of each region; regions of one group are told apart."""
    decode: Decode
    """The decoder of the run, which queries use."""
    autoencoder: Decode | None = None
    """The decoder of the autoencoder, if the run decodes with its memory."""


@torch.no_grad()
def judge(
    views: Sequence[RenderedRegions],
    latents: Float[Tensor, "num_gaussians levels latent_dim"],
    code: CodeSample,
    optimized: bool = False,
) -> list[HealthLine]:
    """Measures the four faults.

    Args:
        views: Views with their own regions, best those that were not trained on.
        latents: The latents of the Gaussians.
        code: The regions of these views, and the code.
        optimized: Whether the latents were optimized; the cures differ.
    """
    place = displacement(views)
    collapse = _collapse(views, latents, code, place, optimized)
    misalignment = _misalignment(place, "the latents collapsed" if collapse.faulty else "")
    hidden = "the latents collapsed" if collapse.faulty else ""
    # A memory is fitted to the latents, so it has collapsed with them.
    lines = [collapse, misalignment, _code(code, hidden if code.autoencoder is not None else "")]
    hidden = "the latents are displaced" if misalignment.faulty else hidden
    return [_only_finite(line) for line in (_bleeding(views, hidden), *lines)]


def _only_finite(line: HealthLine) -> HealthLine:
    """A number that is not finite counts as not measured, for example of a diverged optimization."""
    known = {name: value for name, value in line.details.items() if math.isfinite(value)}
    finite = line.value is None or math.isfinite(line.value)
    return replace(line, value=line.value if finite else None, details=known)


def _bleeding(views: Sequence[RenderedRegions], hidden: str) -> HealthLine:
    return HealthLine(
        name=BLEEDING,
        meaning="share of the pixels near borders of regions that answer the neighbor",
        value=wrong_side_share(views),
        comparison="at most",
        threshold=MOST_WRONG,
        cure="Look at the masks with gen-langsplat extract --preview. If their borders change from view to view, "
        "choose others with --pipeline.datamanager.masks (sam), or raise --pipeline.datamanager.max-image-side. If the "
        "rendered views are blurred too, train the RGB phase longer (--max-num-iterations).",
        hidden_by=hidden,
    )


def _collapse(
    views: Sequence[RenderedRegions],
    latents: Tensor,
    code: CodeSample,
    place: Displacement | None,
    optimized: bool,
) -> HealthLine:
    value = None if place is None else discernment(views, place.best_agreement)
    own = effective_directions(torch.cat([view.latents for view in views])) if views else 0.0
    directions = effective_directions(latents.flatten(0, 1))
    ratio = directions / own if own else 0.0
    usual = USUAL_DIRECTIONS[0] <= ratio <= USUAL_DIRECTIONS[1]
    low = value is not None and value < LEAST_DISCERNMENT
    means = torch.cat([view.means for view in views]) if views else latents.new_zeros(0, latents.shape[-1])
    shown = means[means.any(dim=-1)]
    details = {"directions": directions, "directions_of_regions": own}
    if len(code.embeddings) and len(shown):
        details["cosine_of_decoded_pairs"] = mean_cosine_of_pairs(code.decode(shown))
        details["cosine_of_embedding_pairs"] = mean_cosine_of_pairs(F.normalize(code.embeddings, dim=-1))
    cure = (
        "Lower --optimizers.latents.optimizer.lr (0.0025 is LangSplat's), or use --pipeline.model.language-solver lift."
        if optimized
        else "Extract the features again, and check the autoencoder (--pipeline.model.autoencoder) on their embeddings."
    )
    return HealthLine(
        name=COLLAPSE,
        meaning="share in which rendered latents tell the regions apart, compared with the regions' own latents",
        value=value,
        comparison="at least",
        threshold=LEAST_DISCERNMENT,
        cure=cure,
        hidden_by="the latents are as diverse as those of the regions, but in other places" if low and usual else "",
        details=details,
    )


def _misalignment(place: Displacement | None, hidden: str) -> HealthLine:
    return HealthLine(
        name=MISALIGNMENT,
        meaning="distance at which rendered latents fit the regions of a view best, as a share of its longer side",
        value=None if place is None else place.distance,
        comparison="at most",
        threshold=FARTHEST,
        cure="Check the camera poses, train the RGB phase longer (--max-num-iterations), or refine the poses with "
        "--pipeline.model.camera-optimizer.mode SO3xR3. With --pipeline.init-from, check --pipeline.init-frame.",
        hidden_by=hidden,
        details={} if place is None else {"agreement": place.agreement, "agreement_at_best_fit": place.best_agreement},
    )


def _code(code: CodeSample, hidden: str) -> HealthLine:
    found = code_fidelity(code.embeddings, code.latents, code.groups, code.decode)
    details = {} if found is None else {"retrieval": found.retrieval}
    decoder, least, note = "autoencoder", LEAST_FIDELITY, ""
    instead = "decode with the memory (--pipeline.model.decoder memory)"
    if found is not None and found.cosine < GOOD_FIDELITY:
        note = f"Decoded embeddings keep a cosine of {found.cosine:.2f}, less than {GOOD_FIDELITY}."
    if code.autoencoder is not None:
        decoder, least, instead = "memory", LEAST_WITH_MEMORY, "use a general one (--pipeline.model.autoencoder auto)"
        alone = code_fidelity(code.embeddings, code.latents, code.groups, code.autoencoder)
        if alone is not None:
            details |= {"cosine_of_autoencoder": alone.cosine, "retrieval_of_autoencoder": alone.retrieval}
            if note:
                note = note.replace(", less than", f" with the memory and {alone.cosine:.2f} without it, less than")
    return HealthLine(
        name=UNFAITHFUL,
        meaning=f"cosine of the embeddings of regions and what the {decoder} makes of their latents",
        value=None if found is None else found.cosine,
        comparison="at least",
        threshold=least,
        cure=f"Pre-train an autoencoder on photographs like these (python -m pretrain), or {instead}.",
        hidden_by=hidden,
        note=note,
        details=details,
    )


def describe_health(lines: Sequence[HealthLine]) -> str:
    """Summarizes the health in one line, which names every fault with its cure."""
    faults = [line for line in lines if line.faulty]
    if faults:
        return f"Health: {' '.join(map(_sentence, faults))}"
    measured = [line for line in lines if line.value is not None]
    if not measured:
        return "Health: not measured, because no view has a region with a latent."
    notes = [line.note for line in measured if line.note and not line.hidden_by]
    return " ".join([f"Health: none of {', '.join(line.name for line in measured)}.", *notes])


def _sentence(line: HealthLine) -> str:
    found = f"{line.name}: the {line.meaning} is {line.value:.2f}, expected {line.comparison} {line.threshold:g}."
    return f"{found} {line.cure}"
