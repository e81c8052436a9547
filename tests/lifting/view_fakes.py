"""Small views whose compositing weights are dense matrices, so that what lifting should find can be written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from genlangsplat_ns.lifting.average import RegionView

HEIGHT, WIDTH, LEVELS, LATENT_DIM, GAUSSIANS = 4, 5, 2, 3, 6


class DenseWeights:
    """An operator that holds W as (pixels, Gaussians)."""

    def __init__(self, matrix: Tensor, height: int, width: int) -> None:
        self.matrix, self.height, self.width = matrix, height, width
        self.num_gaussians = matrix.shape[1]

    def composite(self, features: Tensor) -> Tensor:
        return (self.matrix @ features).unflatten(0, (self.height, self.width))

    def backproject(self, targets: Tensor) -> Tensor:
        return self.matrix.T @ targets.flatten(0, 1)


def make_view(seed: int, regions_per_level: int = 4) -> RegionView:
    """Random weights that add up to less than 1 in each pixel, random regions and latents; the last Gaussian unseen."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(HEIGHT * WIDTH, GAUSSIANS, generator=generator)
    weights[:, -1] = 0
    weights *= 0.9 / weights.sum(dim=1, keepdim=True)
    regions = torch.randint(-1, regions_per_level, (LEVELS, HEIGHT, WIDTH), generator=generator)
    regions[1] = torch.where(regions[1] < 0, -1, regions[1] + regions_per_level)
    latents = torch.randn(LEVELS * regions_per_level, LATENT_DIM, generator=generator)
    return RegionView(
        DenseWeights(weights, HEIGHT, WIDTH), regions.int(), torch.nn.functional.normalize(latents, dim=1)
    )


def with_embeddings(view: RegionView, seed: int, embedding_dim: int = 8) -> RegionView:
    """The view with random unit embeddings of its regions."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(len(view.latents), embedding_dim, generator=generator)
    return replace(view, embeddings=torch.nn.functional.normalize(embeddings, dim=1))


def labeled_scene(
    num_views: int,
    truth: Tensor,
    tell: Callable[[int, int], int] = lambda view, thing: thing,
    embed: Callable[[int, Tensor], Tensor] | None = None,
) -> list[RegionView]:
    """Views of things side by side, each of one region and two Gaussians, at one level.

    Args:
        num_views: How many.
        truth: Unit latent of each thing.
        tell: The thing whose latent a view gives to a thing.
        embed: The embeddings that a view has of what it tells, given its number and the things; None for none.
    """
    count = len(truth)
    views = []
    for number in range(num_views):
        generator = torch.Generator().manual_seed(number)
        columns = torch.arange(3 * count) // 3
        shown = torch.arange(2 * count) // 2
        weights = torch.rand(2 * 3 * count, 2 * count, generator=generator)
        weights = weights * (0.02 + 0.98 * (columns.repeat(2)[:, None] == shown))
        weights /= weights.sum(dim=1, keepdim=True)
        told = torch.tensor([tell(number, thing) for thing in range(count)])
        regions = columns.expand(1, 2, -1).int()
        embeddings = None if embed is None else embed(number, told)
        views.append(RegionView(DenseWeights(weights, 2, 3 * count), regions, truth[told], embeddings=embeddings))
    return views
