"""Measures of a trained language field that need no labels, only views with their own regions.

`health` interprets them. All work on latents alone, except `code_fidelity`; `health_geometry` has those that need the
geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from genlangsplat_ns.language.decoding import Decode
from genlangsplat_ns.lifting.regions import paint, region_rows
from genlangsplat_ns.utils.vectors import unit_or_zero

MIN_LENGTH = 1e-3
"""A shorter rendered latent has no reliable direction: almost nothing with a latent is there."""

BAND_SHARE = 0.02
"""Pixels up to this share of the longer side from a border are compared with both of its regions."""

DISTINCT = 0.2
"""Borders between regions whose own latents differ by less than this cosine distance are ignored."""

SEARCH_SIDE, SEARCH_RADIUS = 96, 8
"""The longer side in pixels, approximately, and the largest offset at which displacements are searched."""

TILES = 3, 4
"""Rows and columns of the tiles of a view that are searched for displacements, each alone."""

MIN_GAIN = 0.03
"""A displacement counts if it raises the mean cosine in its tile by more than this."""


@dataclass(frozen=True, eq=False)
class RenderedRegions:
    """The latents rendered into a view, and the view's own regions."""

    regions: Int32[Tensor, "levels height width"]
    """Row of `latents` for each pixel and level; -1 where there is no region."""
    latents: Float[Tensor, "num_regions latent_dim"]
    """The unit latents of the regions themselves."""
    rendered: Float[Tensor, "height width levels latent_dim"]
    """Composited latents, not normalized."""

    @cached_property
    def rows(self) -> Int64[Tensor, "height width levels"]:
        """The row of each pixel's region; `len(latents)` where there is none."""
        return region_rows(self.regions, len(self.latents))

    @cached_property
    def directions(self) -> Float[Tensor, "height width levels latent_dim"]:
        """Unit rendered latents; zero where almost nothing is rendered."""
        lengths = self.rendered.norm(dim=-1, keepdim=True)
        directions: Tensor = self.rendered / lengths.clamp_min(MIN_LENGTH) * (lengths > MIN_LENGTH)
        return directions

    @cached_property
    def means(self) -> Float[Tensor, "num_regions latent_dim"]:
        """Direction of the rendered latents in each region; zero where nothing is rendered."""
        sums = self.directions.new_zeros(len(self.latents) + 1, self.latents.shape[1])
        return unit_or_zero(sums.index_add_(0, self.rows.flatten(), self.directions.flatten(0, 2))[:-1])


# Semantic bleeding


def wrong_side_share(views: Sequence[RenderedRegions]) -> float | None:
    """The share of pixels near a border of two regions whose latent is nearer to that of the region across it.

    Both regions are represented by what is rendered in them. Where that is nearly the same, half of the pixels count.
    None if no view has a border between distinct regions.
    """
    wrong, total = 0.0, 0
    for view in views:
        height, width = view.regions.shape[1:]
        band = max(2, round(BAND_SHARE * max(height, width)))
        for level in range(len(view.regions)):
            for down, right in ((0, 1), (1, 0)):
                counts = _wrong_across_borders(view, level, band, down, right)
                wrong, total = wrong + counts[0], total + counts[1]
    return wrong / total if total else None


def _wrong_across_borders(view: RenderedRegions, level: int, band: int, down: int, right: int) -> tuple[float, int]:
    """Counts pixels on lines of two bands, in one direction, with a border in the middle: wrong ones and all."""
    regions, directions = view.regions[level].long(), view.directions[..., level, :]
    height, width = regions.shape
    length = 2 * band

    def at(offset: int) -> tuple[slice, slice]:
        """Selects the pixels at an offset from the start of every line."""
        rest = length - 1 - offset
        return slice(down * offset, height - down * rest), slice(right * offset, width - right * rest)

    if height <= down * length or width <= right * length:
        return 0.0, 0
    first, last = regions[at(0)], regions[at(length - 1)]
    chosen = (first >= 0) & (last >= 0) & (first != last)
    # The ends of both halves are in the same regions as the border.
    chosen &= (regions[at(band - 1)] == first) & (regions[at(band)] == last)
    chosen &= directions[at(0)].any(dim=-1) & directions[at(length - 1)].any(dim=-1)
    a, b = first[chosen], last[chosen]
    distinct = (view.latents[a] * view.latents[b]).sum(dim=-1) < 1 - DISTINCT
    a, b = a[distinct], b[distinct]
    y, x = (places[distinct] for places in chosen.nonzero(as_tuple=True))
    start, axis = view.means[a], view.means[b] - view.means[a]
    middle = (axis * (view.means[b] + start) / 2).sum(dim=-1)
    separate = axis.square().sum(dim=-1) > DISTINCT
    wrong = 0.0
    for offset in range(length):
        beyond = (directions[y + down * offset, x + right * offset] * axis).sum(dim=-1) > middle
        wrong += float(torch.where(separate, (beyond != (offset >= band)).float(), torch.tensor(0.5)).sum())
    return wrong, length * len(a)


# Latent collapse


def discernment(views: Sequence[RenderedRegions], best_agreement: float) -> float | None:
    """How far the rendered latents tell the regions apart, compared with the regions' own latents.

    It is 1 if the rendered latents are those of the regions, and 0 if they have no more in common with their own region
    than with any other: where all are the same, and where all are noise.

    Args:
        views: The views.
        best_agreement: Mean cosine with the own region, at the best fit of `Displacement`.

    Returns:
        None if no view has a region with a rendered latent, or all regions have the same latent.
    """
    sums, count = [torch.zeros(()), torch.zeros(())], 0
    for view in views:
        valid = (view.rows < len(view.latents)) & view.directions.any(dim=-1)
        count += int(valid.sum())
        for number, values in enumerate((view.directions, paint(view.rows, view.latents))):
            sums[number] = sums[number].to(values) + (values * valid[..., None]).sum(dim=(0, 1, 2))
    if count == 0:
        return None
    rendered, own = (total / count for total in sums)
    spread = 1 - float(own.square().sum())
    return (best_agreement - float(rendered @ own)) / spread if spread > 1e-3 else None


def effective_directions(latents: Float[Tensor, "count latent_dim"]) -> float:
    """The number of directions over which latents are spread: the exponential of the entropy of their second moments.

    Latents that are zero or not finite are ignored; the number of no latents is 0.
    """
    directions = F.normalize(latents[latents.any(dim=-1) & latents.isfinite().all(dim=-1)].double(), dim=-1)
    if len(directions) == 0:
        return 0.0
    shares = torch.linalg.eigvalsh(directions.T @ directions / len(directions)).clamp_min(1e-12)
    return float((-(shares * shares.log()).sum()).exp())


def mean_cosine_of_pairs(vectors: Float[Tensor, "count width"]) -> float:
    """The mean cosine of all pairs of different unit vectors; 1 for fewer than two."""
    count = len(vectors)
    if count < 2:
        return 1.0
    return float((vectors.sum(dim=0).square().sum() - count) / (count * (count - 1)))


# Misalignment of geometry and semantics


@dataclass(frozen=True)
class Displacement:
    """Where the rendered latents of views fit the views' own regions best."""

    distance: float
    """Mean distance to the best fit, as a share of the longer side of a view."""
    agreement: float
    """Mean cosine of rendered latents and those of the regions, in place."""
    best_agreement: float
    """The same at the best fit."""


def displacement(views: Sequence[RenderedRegions]) -> Displacement | None:
    """Searches for every tile of every view the offset at which rendered latents fit the regions best.

    None if no view has a region with a rendered latent.
    """
    tiles = [_tile_fits(view) for view in views]
    means = torch.cat(tiles).mean(dim=0).tolist() if any(len(fits) for fits in tiles) else None
    return None if means is None else Displacement(*means)


def _tile_fits(view: RenderedRegions) -> Float[Tensor, "num_tiles distance_and_cosines"]:
    """The best offset of each tile with regions, as a share of the longer side, and the cosines in place and there."""
    stride = max(1, round(max(view.regions.shape[1:]) / SEARCH_SIDE))
    coarse = slice(stride // 2, None, stride)
    directions, rows = view.directions[coarse, coarse], view.rows[coarse, coarse]
    valid = (rows < len(view.latents))[..., None].float()
    has_latent = directions.any(dim=-1, keepdim=True).float()
    cosines = _correlations(directions, paint(rows, view.latents))
    counts = _correlations(has_latent, valid)
    side = torch.arange(-SEARCH_RADIUS, SEARCH_RADIUS + 1.0)
    distances = (side[:, None].square() + side.square()).sqrt().flatten().to(cosines)
    middle = len(distances) // 2
    in_tile = _correlations(torch.ones_like(valid), valid)[:, middle]
    # An offset that moves most of a tile to empty pixels says nothing.
    table = torch.where(counts > 0.5 * in_tile[:, None], cosines / counts.clamp_min(1), -1.0)
    best = table.max(dim=1)
    in_place = table[:, middle]
    moved_by = distances[best.indices] * (best.values - in_place > MIN_GAIN) / max(rows.shape[:2])
    known = (in_tile > 0) & (in_place > -1)
    return torch.stack([moved_by, in_place, best.values], dim=1)[known]


def _correlations(
    moving: Float[Tensor, "height width levels channels"], fixed: Float[Tensor, "height width levels channels"]
) -> Float[Tensor, "num_tiles num_offsets"]:
    """Sums over each tile the products of two pictures, the first of them moved by every offset."""
    (rows, columns), radius = TILES, SEARCH_RADIUS
    moving, fixed = (values.flatten(2).permute(2, 0, 1) for values in (moving, fixed))
    height, width = (-(-side // count) for side, count in zip(fixed.shape[1:], TILES, strict=True))
    rest = 0, columns * width - fixed.shape[2], 0, rows * height - fixed.shape[1]
    kernels = F.pad(fixed, rest).unfold(1, height, height).unfold(2, width, width)
    padded = F.pad(F.pad(moving, rest), (radius,) * 4)
    patches = padded.unfold(1, height + 2 * radius, height).unfold(2, width + 2 * radius, width)
    # A tile is a convolution of its patch with its part of the second picture as the kernel.
    tiles = [values.permute(1, 2, 0, 3, 4).flatten(0, 1) for values in (patches, kernels)]
    return F.conv2d(tiles[0].flatten(0, 1)[None], tiles[1], groups=rows * columns)[0].flatten(1)


# Unfaithful code


@dataclass(frozen=True)
class Fidelity:
    """How well embeddings survive the way to a latent and back."""

    cosine: float
    """Mean cosine of embeddings and what is decoded."""
    retrieval: float
    """Share of what is decoded that is nearest to its own embedding, of all embeddings of its group."""


MAX_COMPARED = 4_000
"""Fidelity is measured on at most this many embeddings, evenly spaced."""


def code_fidelity(
    embeddings: Float[Tensor, "count embedding_dim"],
    latents: Float[Tensor, "count latent_dim"],
    groups: Int64[Tensor, " count"],
    decode: Decode,
) -> Fidelity | None:
    """Decodes the latents of embeddings, and compares with the embeddings of their groups; None without embeddings."""
    if len(embeddings) == 0:
        return None
    rows = torch.linspace(0, len(embeddings) - 1, min(MAX_COMPARED, len(embeddings))).long().to(embeddings.device)
    embeddings, groups = F.normalize(embeddings[rows], dim=-1), groups[rows]
    cosines = F.normalize(decode(latents[rows]), dim=-1) @ embeddings.T
    own = cosines.diagonal()
    nearest = cosines.masked_fill(groups[:, None] != groups, -1).amax(dim=1)
    return Fidelity(float(own.mean()), float((own >= nearest).float().mean()))


def groups_of_regions(views: Sequence[RenderedRegions]) -> Int64[Tensor, " num_regions"]:
    """The regions of all views by view and level: equal numbers are regions of one map. Regions in no map are alone."""
    groups, next_group = [], 0
    for view in views:
        own = torch.arange(len(view.latents), device=view.latents.device) + next_group + len(view.regions)
        for level, regions in enumerate(view.regions):
            own[regions[regions >= 0].long()] = next_group + level
        groups.append(own)
        next_group += len(view.regions) + len(own)
    return torch.cat(groups) if groups else torch.zeros(0, dtype=torch.long)
