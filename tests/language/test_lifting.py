"""Lifting: the aggregate over views, against sums written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.lifting import LatentLift, region_targets

HEIGHT, WIDTH, LEVELS, LATENT_DIM, GAUSSIANS = 4, 5, 2, 3, 6


def make_view(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compositing weights (pixels, Gaussians), targets and their validity."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(HEIGHT * WIDTH, GAUSSIANS, generator=generator)
    weights[:, -1] = 0  # The last Gaussian is never seen.
    targets = torch.nn.functional.normalize(torch.randn(HEIGHT, WIDTH, LEVELS, LATENT_DIM, generator=generator), dim=-1)
    valid = torch.rand(HEIGHT, WIDTH, LEVELS, generator=generator) > 0.4
    return weights, targets * valid[..., None], valid


def lift(views: list[tuple[Tensor, Tensor, Tensor]]) -> LatentLift:
    accumulator = LatentLift(GAUSSIANS, LEVELS, LATENT_DIM)
    for weights, targets, valid in views:
        accumulator.add(lambda values, weights=weights: weights.T @ values.flatten(0, 1), targets, valid)
    return accumulator


def test_the_aggregate_is_the_weighted_mean_over_all_labelled_pixels_of_all_views() -> None:
    views = [make_view(seed) for seed in range(3)]
    lifted = lift(views).solve()
    for gaussian in range(GAUSSIANS):
        for level in range(LEVELS):
            total, mass = torch.zeros(LATENT_DIM), 0.0
            for weights, targets, valid in views:
                for pixel in range(HEIGHT * WIDTH):
                    row, column = divmod(pixel, WIDTH)
                    if valid[row, column, level]:
                        weight = float(weights[pixel, gaussian])
                        total += weight * targets[row, column, level]
                        mass += weight
            assert float(lifted.mass[gaussian, level]) == pytest.approx(mass, abs=1e-4)
            expected = total / total.norm() if mass > 0 else total
            assert torch.allclose(lifted.latents[gaussian, level], expected, atol=1e-5)


def test_gaussians_that_no_region_saw_stay_zero() -> None:
    lifted = lift([make_view(0)]).solve()
    assert not lifted.latents[-1].any() and not lifted.mass[-1].any()
    assert torch.allclose(lifted.latents[:-1].norm(dim=-1), torch.ones(GAUSSIANS - 1, LEVELS), atol=1e-5)


def test_the_order_of_views_does_not_matter() -> None:
    views = [make_view(seed) for seed in range(4)]
    forward, backward = lift(views).solve(), lift(views[::-1]).solve()
    assert torch.allclose(forward.latents, backward.latents, atol=1e-5)


def test_targets_are_the_latents_of_the_regions_and_zero_elsewhere() -> None:
    regions = torch.tensor([[[0, -1], [1, 1]], [[2, 2], [-1, -1]]], dtype=torch.int32)
    latents = torch.eye(3)
    targets, valid = region_targets(regions, latents)
    assert targets.shape == (2, 2, 2, 3)
    assert torch.equal(targets[0, 0, 0], latents[0]) and torch.equal(targets[1, 1, 0], latents[1])
    assert torch.equal(targets[0, 1, 1], latents[2])
    assert not targets[~valid].any() and int(valid.sum()) == 5


def test_a_view_without_regions_adds_nothing() -> None:
    targets, valid = region_targets(torch.full((2, 3, 3), -1, dtype=torch.int32), torch.zeros(0, 4))
    assert not valid.any() and not targets.any()


def test_a_region_without_a_latent_is_refused() -> None:
    with pytest.raises(GenLangSplatError, match="names region 2"):
        region_targets(torch.full((1, 2, 2), 2, dtype=torch.int32), torch.zeros(2, 4))
