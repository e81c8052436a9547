"""Where language and geometry disagree, on made-up fields and Gaussians."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genlangsplat_ns.lifting.health_geometry import (
    agreement,
    agreement_at_depth_edges,
    agreement_by_distance,
    floating_share,
    unseen_share,
    weights_in_view,
)
from genlangsplat_ns.rasterization import Gaussians, RenderedWeights, View, render
from tests.lifting.made_up_field import CELL, HEIGHT, LATENT_DIM, LEVELS, WIDTH, Field


def test_the_agreement_of_a_view_is_the_mean_cosine_where_both_latents_are() -> None:
    field = Field(0)
    rendered = field.latents[field.regions.permute(1, 2, 0).long()]
    assert agreement(field.view(rendered=rendered)) == pytest.approx(1.0, abs=1e-5)
    rendered[: HEIGHT // 2] *= -1
    assert agreement(field.view(rendered=rendered)) == pytest.approx(0.0, abs=1e-5)
    assert agreement(field.view(rendered=torch.zeros_like(rendered))) is None


def test_the_agreement_at_steps_of_the_depth_is_apart_from_that_elsewhere() -> None:
    field = Field(0)
    depth = torch.ones(HEIGHT, WIDTH)
    assert agreement_at_depth_edges(field.view(), depth) is None
    depth[:, CELL:] = 2.0
    good = field.view()
    rendered = good.rendered.clone()
    rendered[:, CELL - 1 : CELL + 1] = -rendered[:, CELL - 1 : CELL + 1]
    found = agreement_at_depth_edges(replace(good, rendered=rendered), depth)
    assert found is not None and found[0] < 0.5 < 0.9 < found[1]


def test_views_far_from_the_training_cameras_are_apart_from_near_ones() -> None:
    training = torch.tensor([[0.0, 0, 0], [2, 0, 0], [4, 0, 0]])
    positions = torch.tensor([[2.0, 6, 0], [0, 1, 0], [2, 0, 2], [4, 4, 0]])
    found = agreement_by_distance(torch.tensor([0.2, 0.9, 0.7, 0.4]), positions, training)
    assert found is not None
    assert (found.near, found.far) == (pytest.approx(0.8), pytest.approx(0.3))
    # Training cameras are 2 apart.
    assert (found.near_distance, found.far_distance) == (pytest.approx(0.75), pytest.approx(2.5))
    assert agreement_by_distance(torch.ones(1), positions[:1], training) is None
    assert agreement_by_distance(torch.ones(4), positions, training[:1]) is None
    assert agreement_by_distance(torch.ones(4), positions, torch.zeros(3, 3)) is None


def test_opaque_gaussians_without_a_latent_were_seen_by_no_region() -> None:
    latents = torch.zeros(4, LEVELS, LATENT_DIM)
    latents[:2, 0, 0] = 1.0
    assert unseen_share(torch.tensor([0.9, 0.1, 0.9, 0.1]), latents) == 0.5


def camera(x: float) -> View:
    """A camera at (x, 0, 0) that looks along z."""
    viewmat = torch.eye(4)
    viewmat[0, 3] = -x
    return View(viewmat, torch.tensor([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]]), 64, 48)


def wall_with(*others: tuple[float, float]) -> Gaussians:
    """An opaque wall at depth 4, and Gaussians in the middle at other depths and with other opacities."""
    y, x = torch.meshgrid(torch.linspace(-2, 2, 25), torch.linspace(-3, 3, 37), indexing="ij")
    wall = torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), 4.0)], dim=1)
    means = torch.cat([wall, *(torch.tensor([[0.0, 0.0, depth]]) for depth, _ in others)])
    opacities = torch.cat([torch.full((len(wall),), 0.95), *(torch.tensor([opacity]) for _, opacity in others)])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(len(means), 4).contiguous()
    return Gaussians(means, quats, torch.full((len(means), 3), 0.12), opacities)


def floating(gaussians: Gaussians, latents: torch.Tensor) -> float:
    sums = torch.zeros(len(gaussians), 2)
    for x in (-0.3, 0.0, 0.3):
        view = camera(x)
        weights = RenderedWeights(gaussians, view)
        depth = render(gaussians, view, torch.zeros(len(gaussians), 1), render_mode="ED")[0][0, ..., 0]
        sums += weights_in_view(weights, gaussians.means[:, 2], depth)
    return floating_share(sums, latents)


def test_a_thin_gaussian_before_a_wall_floats_and_one_at_the_wall_does_not() -> None:
    thin, close = wall_with((2.0, 0.3)), wall_with((3.9, 0.3))
    latents = torch.ones(len(thin), LEVELS, LATENT_DIM)
    assert floating(close, latents) == 0
    share = floating(thin, latents)
    assert 0 < share < 0.1
    assert floating(wall_with((2.0, 0.3), (2.2, 0.3)), torch.ones(len(thin) + 1, LEVELS, LATENT_DIM)) > 1.3 * share
    latents[-1] = 0
    assert floating(thin, latents) == 0, "a floater without language does not count"
    assert floating(thin, torch.zeros_like(latents)) == 0
