"""Small views with dense matrices of compositing weights, for explicit reference computations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from genlangsplat_ns.lifting.regions import RegionView

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
    """Random weights that sum to less than 1 in each pixel, random regions and latents; the last Gaussian is unseen."""
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
    label: Callable[[int, int], int] = lambda view, item: item,
    embed: Callable[[int, Tensor], Tensor] | None = None,
) -> list[RegionView]:
    """Views of objects side by side, each with one region and two Gaussians, at one level.

    Args:
        num_views: Number of views.
        truth: Unit latent of each object.
        label: For a view and an object, the object whose latent the region gets.
        embed: For a view and its labels, the embeddings of the regions; None for none.
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
        labels = torch.tensor([label(number, item) for item in range(count)])
        regions = columns.expand(1, 2, -1).int()
        embeddings = None if embed is None else embed(number, labels)
        views.append(RegionView(DenseWeights(weights, 2, 3 * count), regions, truth[labels], embeddings=embeddings))
    return views
