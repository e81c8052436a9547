"""The regions of all training views, as the data that a scene's memory is fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, Int64
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.lifting.regions import RegionConsensus, RegionView, RegionWeights
from genlangsplat_ns.lifting.residuals import composite_latents

AGREEMENT_POWER, REGION_WEIGHT_POWER = 2.0, 0.25
"""The reliability of a region is its agreement (cosine between its latent and the consensus) and its weight in robust
lifting, raised to these powers and multiplied."""

MIN_AGREEMENT = 0.1
"""Lower bound of the agreement, so that a scene whose regions all contradict the consensus still gets a memory."""


@dataclass(frozen=True, eq=False)
class MemoryRegions:
    """The regions of many views: embeddings, and the consensus latents under which they are stored.

    Attributes:
        consensus: Direction of the sum of the rendered latents in each region; zero where nothing is rendered.
        embeddings: Embeddings from the encoder.
        samples: The rendered latent of one random pixel of each region.
        areas: Number of pixels with a rendered latent.
        reliabilities: From 0 to 1, see `AGREEMENT_POWER`.
        views: Number of the view of each region.
    """

    consensus: Float[Tensor, "num_regions latent_dim"]
    embeddings: Float[Tensor, "num_regions embedding_dim"]
    samples: Float[Tensor, "num_regions latent_dim"]
    areas: Float[Tensor, " num_regions"]
    reliabilities: Float[Tensor, " num_regions"]
    views: Int64[Tensor, " num_regions"]

    def __len__(self) -> int:
        return len(self.views)

    def weights(self, use_reliability: bool) -> Float[Tensor, " num_regions"]:
        """The weight of each region: its area, optionally times its reliability."""
        return self.areas * self.reliabilities if use_reliability else self.areas

    def select(self, rows: Tensor) -> MemoryRegions:
        """Selects regions by index or by a boolean mask."""
        return MemoryRegions(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    @classmethod
    def from_consensus(
        cls, consensus: Sequence[RegionConsensus], region_weights: RegionWeights | None, names: Sequence[str] = ()
    ) -> MemoryRegions:
        """Collects the regions of all views, on the CPU.

        `region_weights` are the weights in lifting (None for weights of 1), `names` those of the views in messages.

        Raises:
            GenLangSplatError: There is no view, or an embedding is missing or not finite.
        """
        if not consensus:
            raise GenLangSplatError("Found no view to fit a scene's memory to, expected the training views.")
        parts = []
        for number, view in enumerate(consensus):
            name = names[number] if names else f"view {number}"
            weights = torch.ones_like(view.areas) if region_weights is None else region_weights[number].to(view.areas)
            agreements = view.agreements.clamp_min(MIN_AGREEMENT)
            parts.append(
                cls(
                    consensus=view.latents.cpu(),
                    embeddings=_unit_embeddings(view, name).cpu(),
                    samples=view.samples.cpu(),
                    areas=view.areas.cpu(),
                    reliabilities=(weights**REGION_WEIGHT_POWER * agreements**AGREEMENT_POWER).cpu(),
                    views=torch.full((len(view.areas),), number),
                )
            )
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__})


@torch.no_grad()
def collect_regions(
    views: Iterable[RegionView],
    latents: Float[Tensor, "num_gaussians levels latent_dim"],
    region_weights: RegionWeights | None,
) -> MemoryRegions:
    """Computes the consensus on the regions of views in one pass, for latents that were not lifted just now.

    The views must have embeddings; downscaled ones suffice. `region_weights` are as in `MemoryRegions.from_consensus`.

    Raises:
        GenLangSplatError: There is no view, or an embedding is missing or not finite.
    """
    found = [(view.consensus(composite_latents(view, latents)), view.name) for view in views]
    return MemoryRegions.from_consensus([item for item, _ in found], region_weights, [name for _, name in found])


def _unit_embeddings(view: RegionConsensus, name: str) -> Float16[Tensor, "num_regions embedding_dim"]:
    if view.embeddings.shape[1] == 0 and len(view.embeddings) > 0:
        raise GenLangSplatError(
            f"The regions of {name} have no embeddings, expected those of the feature store: a scene's memory consists "
            "of them. Extract the features again."
        )
    broken = int((~view.embeddings.isfinite().all(dim=-1)).sum())
    if broken:
        raise GenLangSplatError(
            f"{broken} of the {len(view.embeddings)} embeddings of {name} hold NaN or infinity, expected unit "
            "vectors. Extract the view again."
        )
    return F.normalize(view.embeddings.float(), dim=-1).half()
