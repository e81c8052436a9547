"""The regions of one view: their latents, their pixels, and the consensus of all views on them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float16, Int32, Int64
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.vectors import unit_or_zero

RegionWeights = list[Tensor]
"""For every view the weights of its regions, from 0 to 1."""


@runtime_checkable
class ViewOperator(Protocol):
    """Rendering of one view as a linear map W of the values of the Gaussians, and its transpose."""

    width: int
    height: int
    num_gaussians: int

    def composite(self, features: Tensor) -> Tensor:
        """Computes W @ features: (num_gaussians, channels) to (height, width, channels)."""

    def backproject(self, targets: Tensor) -> Tensor:
        """Computes W^T @ targets: (height, width, channels) to (num_gaussians, channels)."""


@dataclass(frozen=True)
class RegionView:
    """One view: the compositing of its Gaussians, and the latents of its regions.

    Raises:
        GenLangSplatError: The region maps and the view differ in size, or a latent is not finite.
    """

    operator: ViewOperator
    regions: Int32[Tensor, "levels height width"]
    """Row of `latents` for each pixel and level; -1 where there is no region."""
    latents: Float[Tensor, "num_regions latent_dim"]
    """One unit latent per region; rows are numbered across all levels."""
    name: str = "a view"
    """Name of the view in messages."""
    embeddings: Float[Tensor, "num_regions embedding_dim"] | None = None
    """The embeddings from which the latents were encoded; None where they are not needed."""

    def __post_init__(self) -> None:
        height, width = self.regions.shape[1:]
        if (height, width) != (self.operator.height, self.operator.width):
            raise GenLangSplatError(
                f"The regions of {self.name} are {width}x{height} pixels, but the view is {self.operator.width}x"
                f"{self.operator.height}. Extract the features from the training images, at their resolution."
            )
        broken = int((~self.latents.isfinite().all(dim=-1)).sum())
        if broken:
            raise GenLangSplatError(
                f"{broken} of the {len(self.latents)} latents of {self.name} hold NaN or infinity, expected unit "
                "vectors. Check the embeddings of the feature store and the autoencoder, or extract the view again."
            )

    @cached_property
    def rows(self) -> Int64[Tensor, "height width levels"]:
        """The row of `latents` for each pixel and level; `len(latents)` where there is no region."""
        return region_rows(self.regions, len(self.latents))

    def paint(self, values: Float[Tensor, "num_regions channels"]) -> Float[Tensor, "height width levels channels"]:
        """Assigns the values of each region to its pixels, and zero to pixels without a region."""
        return paint(self.rows, values)

    def sum_over_regions(
        self, values: Float[Tensor, "height width levels *channels"]
    ) -> Float[Tensor, " num_regions *channels"]:
        """Sums pixel values over each region."""
        sums = values.new_zeros(len(self.latents) + 1, *values.shape[3:])
        return sums.index_add_(0, self.rows.flatten(), values.flatten(0, 2))[:-1]

    def consensus(self, rendered: Float[Tensor, "height width levels latent_dim"]) -> RegionConsensus:
        """Computes the consensus of all views on the regions of this view from the lifted latents rendered into it."""
        latents = unit_or_zero(self.sum_over_regions(rendered))
        embeddings = self.latents.new_zeros(len(self.latents), 0) if self.embeddings is None else self.embeddings
        return RegionConsensus(
            latents=latents,
            samples=rendered.flatten(0, 2)[self._random_pixels()],
            areas=self.sum_over_regions(rendered.any(dim=-1).to(rendered)),
            agreements=(latents * self.latents).sum(dim=-1),
            embeddings=embeddings.to(latents.device, torch.float16),
        )

    def _random_pixels(self) -> Int64[Tensor, " num_regions"]:
        """Index of a random pixel of each region in the flattened pixels and levels; arbitrary for empty regions."""
        rows = self.rows.flatten()
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows))).to(rows.device)
        highest = torch.full((len(self.latents) + 1,), -1, device=rows.device).scatter_reduce(0, rows, order, "amax")
        places = torch.empty_like(order)
        places[order] = torch.arange(len(rows), device=rows.device)
        return places[highest[:-1].clamp_min(0)]


@dataclass(frozen=True, eq=False)
class RegionConsensus:
    """The consensus of all views on the regions of one view."""

    latents: Float[Tensor, "num_regions latent_dim"]
    """Direction of the sum of the rendered latents in a region; zero where nothing is rendered."""
    samples: Float[Tensor, "num_regions latent_dim"]
    """The rendered latent of one random pixel of the region."""
    areas: Float[Tensor, " num_regions"]
    """Number of pixels of the region with a rendered latent."""
    agreements: Float[Tensor, " num_regions"]
    """Cosine between the consensus latent and the region's own latent."""
    embeddings: Float16[Tensor, "num_regions embedding_dim"]
    """Embedding of the region from the encoder; of width 0 where the view has none."""

    def cpu(self) -> RegionConsensus:
        """Moves all fields to the CPU."""
        return RegionConsensus(*(getattr(self, item.name).cpu() for item in fields(self)))


def region_targets(
    regions: Int32[Tensor, "levels height width"], latents: Float[Tensor, "num_regions latent_dim"]
) -> tuple[Float[Tensor, "height width levels latent_dim"], Bool[Tensor, "height width levels"]]:
    """Assigns the latent of each region to its pixels; `regions` holds rows of `latents`, -1 where there is no region.

    Returns:
        The target latents (zero where there is no region), and whether a pixel has a target.

    Raises:
        GenLangSplatError: A region has no latent.
    """
    rows = region_rows(regions, len(latents))
    return paint(rows, latents), rows < len(latents)


def region_rows(
    regions: Int32[Tensor, "levels height width"], num_regions: int
) -> Int64[Tensor, "height width levels"]:
    """The row of each pixel's region; `num_regions` where there is no region.

    Raises:
        GenLangSplatError: A region has no latent.
    """
    rows = regions.permute(1, 2, 0).contiguous().long()
    highest = int(rows.max())
    if highest >= num_regions:
        raise GenLangSplatError(
            f"A region map contains region {highest}, but the view has only {num_regions} latents. The "
            "feature store is inconsistent; delete its folder under language_features/ and extract again."
        )
    return torch.where(rows < 0, num_regions, rows)


def paint(
    rows: Int64[Tensor, "height width levels"], values: Float[Tensor, "num_regions channels"]
) -> Float[Tensor, "height width levels channels"]:
    """Assigns the values of regions to pixels; selecting flat rows is five times as fast as indexing with a map."""
    padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
    return torch.unflatten(padded.index_select(0, rows.flatten()), 0, rows.shape)
