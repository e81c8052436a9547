"""Lifting: from the latents of many views to one latent per Gaussian and level, with the geometry frozen.

Rendering is linear in what the Gaussians carry, so with weights `w` (pixel p, Gaussian i) the aggregate
`sum_p w_pi * target_p / sum_p w_pi` needs one pass over the views and no optimizer (Occam's LGS and its kin). The
module `refinement` tells regions that contradict all others from the rest and aggregates without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float16, Int32, Int64
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError

SHORTEST = 1e-8
"""A sum of latents shorter than this has no direction."""

LEAST_SHARE = 1e-6
"""A Gaussian with less mass than this share of the mean of those with any was not seen. What little the views show of
it may be the rim of something else: in composed scenes up to a quarter of the latents below a tenth of this share
pointed elsewhere. Leaving out all below it changed no figure; a hundred times as much left holes in held-out views."""

GATED_TRUST = 1e-3
"""What a view still counts for a Gaussian that the visibility gate shuts out there, so that one shut out of all views
is not left without a latent: such holes cost far more than they spare."""

MEDIAN_STEP = 1.0
"""Radians by which the first views move the streaming median at most."""


Trust = list[Tensor]
"""For every view how far each of its regions is believed, from 0 to 1."""


@dataclass(frozen=True)
class LiftedLatents:
    """What the views say about each Gaussian."""

    latents: Float[Tensor, "num_gaussians levels latent_dim"]
    """Unit latents; zero where no region was ever seen, or next to nothing of one."""
    mass: Float[Tensor, "num_gaussians levels"]
    """Sum of the compositing weights over all labeled pixels of all views, each times the trust in its region."""
    region_weights: Trust | None = None
    """For every view how far each of its regions was believed; None where none was judged."""
    region_consensus: list[RegionConsensus] | None = None
    """For every view what the views together say of its regions; None where nobody looked."""

    @property
    def seen(self) -> Bool[Tensor, "num_gaussians levels"]:
        """Which Gaussians a region was seen on; the others have a latent of zero, which scores 0 in every query."""
        return self.latents.any(dim=-1)


@dataclass(frozen=True)
class LiftSettings:
    """How latents are lifted.

    Raises:
        GenLangSplatError: A setting is out of range.
    """

    average: Literal["mean", "median"] = "mean"
    """What joins the views of a Gaussian: their weighted mean, or a streaming median of directions (VALA)."""
    visibility_gate: float = 1.0
    """A view speaks for the Gaussians that together hold this share of its compositing weights (VALA); 1 for all."""
    visibility_cap: float = 1.0
    """Nor does a view speak for more than this share of the Gaussians it sees (VALA)."""
    robust_rounds: int = 2
    """How often at most regions that contradict what all views together say lose weight; 0 for the plain average."""
    gradient_steps: int = 0
    """Steps of conjugate gradients that sharpen the aggregate towards the least-squares fit of the views."""
    damping: float = 0.1
    """How strongly those steps are held at the aggregate, in units of the weights a Gaussian has."""

    def __post_init__(self) -> None:
        for name in ("visibility_gate", "visibility_cap"):
            if not 0 < getattr(self, name) <= 1:
                raise GenLangSplatError(f"Found a {name} of {getattr(self, name)}; choose a share above 0, at most 1.")
        for name in ("robust_rounds", "gradient_steps"):
            if getattr(self, name) < 0:
                raise GenLangSplatError(f"Found {getattr(self, name)} {name}; choose 0 to leave them out, or more.")
        if not 0 <= self.damping < float("inf"):
            raise GenLangSplatError(f"Found a damping of {self.damping}; choose 0 or a positive number.")


@runtime_checkable
class ViewOperator(Protocol):
    """Rendering of one view as a linear map W of what the Gaussians carry, and its transpose."""

    width: int
    height: int
    num_gaussians: int

    def composite(self, features: Tensor) -> Tensor:
        """W @ features: (num_gaussians, channels) to (height, width, channels)."""
        ...

    def backproject(self, targets: Tensor) -> Tensor:
        """W^T @ targets: (height, width, channels) to (num_gaussians, channels)."""
        ...


@dataclass(frozen=True)
class RegionView:
    """One view: how it composites the Gaussians, and the latents of its regions.

    Raises:
        GenLangSplatError: The regions have another size than the view, or a latent is not finite.
    """

    operator: ViewOperator
    """The view's compositing."""
    regions: Int32[Tensor, "levels height width"]
    """Row of `latents` for each pixel and level; -1 where no region is."""
    latents: Float[Tensor, "num_regions latent_dim"]
    """One unit latent per region, rows numbered through all levels."""
    name: str = "a view"
    """What messages call it."""
    embeddings: Float[Tensor, "num_regions embedding_dim"] | None = None
    """The embeddings that the latents were encoded from, where somebody wants them."""

    def __post_init__(self) -> None:
        height, width = self.regions.shape[1:]
        if (height, width) != (self.operator.height, self.operator.width):
            raise GenLangSplatError(
                f"The regions of {self.name} are {width}x{height} pixels, but the view is {self.operator.width}x"
                f"{self.operator.height}. Extract the features from the pictures that are trained on, in their size."
            )
        broken = int((~self.latents.isfinite().all(dim=-1)).sum())
        if broken:
            raise GenLangSplatError(
                f"{broken} of the {len(self.latents)} latents of {self.name} hold NaN or infinity, expected unit "
                "vectors. Check the embeddings of the feature store and the autoencoder, or extract the view again."
            )

    @cached_property
    def rows(self) -> Int64[Tensor, "height width levels"]:
        """The row of `latents` for each pixel and level; the row behind the last where no region is."""
        return region_rows(self.regions, len(self.latents))

    def paint(self, values: Float[Tensor, "num_regions channels"]) -> Float[Tensor, "height width levels channels"]:
        """Puts the values of each region on its pixels, and zero where no region is."""
        return paint(self.rows, values)

    def sum_over_regions(
        self, values: Float[Tensor, "height width levels *channels"]
    ) -> Float[Tensor, num_regions * channels]:
        """Adds up what the pixels of each region have."""
        sums = values.new_zeros(len(self.latents) + 1, *values.shape[3:])
        return sums.index_add_(0, self.rows.flatten(), values.flatten(0, 2))[:-1]

    def consensus(self, rendered: Float[Tensor, "height width levels latent_dim"]) -> RegionConsensus:
        """What all views together say of each region of this one.

        Args:
            rendered: The lifted latents, composited into this view.
        """
        latents = unit_or_zero(self.sum_over_regions(rendered))
        embeddings = self.latents.new_zeros(len(self.latents), 0) if self.embeddings is None else self.embeddings
        return RegionConsensus(
            latents=latents,
            samples=rendered.flatten(0, 2)[self._one_pixel_each()],
            areas=self.sum_over_regions(rendered.any(dim=-1).to(rendered)),
            agreements=(latents * self.latents).sum(dim=-1),
            embeddings=embeddings.to(latents.device, torch.float16),
        )

    def _one_pixel_each(self) -> Int64[Tensor, " num_regions"]:
        """A pixel of each region, drawn at random: its place among all pixels and levels; any where it has none."""
        rows = self.rows.flatten()
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows))).to(rows.device)
        highest = torch.full((len(self.latents) + 1,), -1, device=rows.device).scatter_reduce(0, rows, order, "amax")
        places = torch.empty_like(order)
        places[order] = torch.arange(len(rows), device=rows.device)
        return places[highest[:-1].clamp_min(0)]


@dataclass(frozen=True, eq=False)
class RegionConsensus:
    """What all views together say of the regions of one view."""

    latents: Float[Tensor, "num_regions latent_dim"]
    """Direction of the rendered latents of a region's pixels, summed; zero where they show nothing."""
    samples: Float[Tensor, "num_regions latent_dim"]
    """The rendered latents of one of its pixels, drawn at random."""
    areas: Float[Tensor, " num_regions"]
    """How many of its pixels show anything."""
    agreements: Float[Tensor, " num_regions"]
    """Cosine between that direction and the region's own latent."""
    embeddings: Float16[Tensor, "num_regions embedding_dim"]
    """What the encoder said of it; of width 0 where the view does not tell."""

    def packed(self) -> Float[Tensor, "num_regions columns"]:
        """All of it in one matrix."""
        numbers = torch.stack([self.areas, self.agreements], dim=1)
        return torch.cat([numbers, self.latents, self.samples, self.embeddings.float()], dim=1)

    @classmethod
    def unpacked(cls, packed: Float[Tensor, "num_regions columns"], latent_dim: int) -> RegionConsensus:
        """What was packed."""
        numbers, latents, samples, embeddings = packed.split(
            [2, latent_dim, latent_dim, packed.shape[1] - 2 - 2 * latent_dim], dim=1
        )
        areas, agreements = numbers.unbind(dim=1)
        return cls(latents, samples, areas, agreements, embeddings.half())


def region_targets(
    regions: Int32[Tensor, "levels height width"], latents: Float[Tensor, "num_regions latent_dim"]
) -> tuple[Float[Tensor, "height width levels latent_dim"], Bool[Tensor, "height width levels"]]:
    """Paints the latent of each region over its pixels.

    Args:
        regions: Row of `latents` for each pixel and level; -1 where no region is.
        latents: One latent per region of the view.

    Returns:
        The target latents (zero where there is no region) and whether a pixel has one.

    Raises:
        GenLangSplatError: A region has no latent.
    """
    rows = region_rows(regions, len(latents))
    return paint(rows, latents), rows < len(latents)


def region_rows(
    regions: Int32[Tensor, "levels height width"], num_regions: int
) -> Int64[Tensor, "height width levels"]:
    """The row of each pixel's region; the row behind the last where no region is.

    Raises:
        GenLangSplatError: A region has no latent.
    """
    rows = regions.permute(1, 2, 0).contiguous().long()
    highest = int(rows.max())
    if highest >= num_regions:
        raise GenLangSplatError(
            f"A region map names region {highest}, but the view has only {num_regions} latents. The "
            "feature store is inconsistent; delete its folder under language_features/ and extract again."
        )
    return torch.where(rows < 0, num_regions, rows)


def paint(rows: Tensor, values: Tensor) -> Float[Tensor, "height width levels channels"]:
    """Puts values on the pixels of their regions; selecting flat rows is five times as fast as indexing with a map."""
    padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
    return padded.index_select(0, rows.flatten()).unflatten(0, rows.shape)


class LatentMean:
    """Accumulates `sum w * latent` and `sum w` over views; its memory does not grow with their number.

    Args:
        num_gaussians: How many Gaussians there are.
        levels: Levels of regions, all lifted at once.
        latent_dim: Width of a latent.
        settings: Of these the visibility gate.
        device: Where the sums lie.

    Raises:
        GenLangSplatError: There is no Gaussian.
    """

    def __init__(
        self,
        num_gaussians: int,
        levels: int,
        latent_dim: int,
        settings: LiftSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_gaussians == 0:
            raise GenLangSplatError(
                "Found no Gaussian to lift latents onto, expected at least one. Train the RGB phase longer, or begin "
                "with a scene that has some."
            )
        self.settings = settings
        self.num_views = 0
        # The mass follows the latents, so that both are backprojected and added as they lie.
        self.sums = torch.zeros(num_gaussians, levels, latent_dim + 1, device=device)

    def add(self, view: RegionView, trust: Float[Tensor, " num_regions"] | None = None) -> None:
        """Adds one view, its regions weighted by the trust in them when that is given."""
        believed = view.latents.new_ones(len(view.latents), 1) if trust is None else trust[:, None]
        values = view.paint(torch.cat([view.latents * believed, believed], dim=1)).flatten(-2)
        gated = self.settings.visibility_gate < 1 or self.settings.visibility_cap < 1
        if gated:
            values = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
        sums = view.operator.backproject(values)
        self.num_views += 1
        if gated:
            open_to = visibility_gate(sums[:, -1], self.settings.visibility_gate, self.settings.visibility_cap)
            sums[~open_to] *= GATED_TRUST
            sums = sums[:, :-1]
        self.accumulate(sums.unflatten(-1, self.sums.shape[1:]))

    def accumulate(self, sums: Float[Tensor, "num_gaussians levels channels"]) -> None:
        """Adds what one view says of each Gaussian."""
        self.sums += sums

    def solve(self) -> LiftedLatents:
        """Returns the unit latents of all views added so far; zero for Gaussians below `LEAST_SHARE` of the mean mass.

        Raises:
            GenLangSplatError: None of them has a region that falls on a Gaussian.
        """
        mass = self.sums[..., -1].clone()
        if not bool(mass.any()):
            raise GenLangSplatError(
                f"Found no region on any Gaussian in {self.num_views} views, expected some in most. Look at the masks "
                "with gen-langsplat extract, or extract the features again with another mask generator."
            )
        floor = LEAST_SHARE * mass.sum(dim=0) / (mass > 0).sum(dim=0).clamp_min(1)
        return LiftedLatents(unit_or_zero(self.sums[..., :-1]) * (mass >= floor)[..., None], mass)


class LatentMedian(LatentMean):
    """A streaming median on the sphere (VALA): each view pulls a Gaussian's latent by its weight, however far it is.

    A view moves the latent along the great circle towards what it says, by its share of the weights seen so far but
    never beyond; this is stochastic descent on the weighted sum of angles, whose minimum is the spherical median.
    """

    def accumulate(self, sums: Float[Tensor, "num_gaussians levels channels"]) -> None:
        """Moves the latents towards those of one view."""
        latents, mass = self.sums[..., :-1], self.sums[..., -1:]
        mass += sums[..., -1:]
        said = unit_or_zero(sums[..., :-1])
        cosine = (latents * said).sum(dim=-1, keepdim=True).clamp(-1.0, 1.0)
        tangent = unit_or_zero(said - cosine * latents)
        angle = torch.minimum(cosine.acos(), MEDIAN_STEP * sums[..., -1:] / mass.clamp_min(SHORTEST))
        moved = torch.where(said.any(dim=-1, keepdim=True), latents * angle.cos() + tangent * angle.sin(), latents)
        latents.copy_(torch.where(latents.any(dim=-1, keepdim=True), unit_or_zero(moved), said))


def visibility_gate(
    mass: Float[Tensor, " num_gaussians"], share: float, cap: float = 1.0
) -> Bool[Tensor, " num_gaussians"]:
    """Which Gaussians a view shows well: the heaviest that together hold a share of its weights (VALA).

    Args:
        mass: Sum over the view's pixels of each Gaussian's weight.
        share: The share of the sum of all weights that those kept reach.
        cap: The most to keep, as a share of the Gaussians with any weight.
    """
    heaviest = mass[mass > 0].sort(descending=True).values
    if len(heaviest) == 0:
        return mass > 0
    reached = heaviest.double().cumsum(dim=0)
    count = int((reached < share * reached[-1]).sum()) + 1
    count = min(count, ceil(cap * len(heaviest)), len(heaviest))
    return mass >= heaviest[count - 1]


def accumulate(
    views: Iterable[RegionView],
    trust: Trust | None,
    num_gaussians: int,
    levels: int,
    latent_dim: int,
    settings: LiftSettings,
    device: torch.device | str = "cpu",
) -> LatentMean:
    """Adds up views in one pass over them.

    Args:
        views: The labeled views.
        trust: How far each region of each view is believed; None for all alike.
        num_gaussians: How many Gaussians they composite.
        levels: Levels of their regions.
        latent_dim: Width of their latents.
        settings: How views are joined.
        device: Where the latents lie.

    Raises:
        GenLangSplatError: There is no Gaussian.
    """
    kind = LatentMedian if settings.average == "median" else LatentMean
    accumulator = kind(num_gaussians, levels, latent_dim, settings, device)
    for number, view in enumerate(views):
        accumulator.add(view, None if trust is None else trust[number])
    return accumulator


def unit_or_zero(vectors: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch latent_dim"]:
    """Scales vectors to length 1, and those without a direction to zero."""
    return torch.where(vectors.norm(dim=-1, keepdim=True) > SHORTEST, F.normalize(vectors, dim=-1), 0.0)


def region_weights_of(view: RegionView, number: int, trust: Trust | None) -> Float[Tensor, " num_regions"]:
    """How far the regions of one of the views are believed: wholly, where nothing is known."""
    return view.latents.new_ones(len(view.latents)) if trust is None else trust[number]
