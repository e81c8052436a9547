"""Averages over views, compared with sums pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.lifting.average import LiftedLatents, average_views
from genlangsplat_ns.lifting.regions import RegionView, region_targets
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.rasterization import RenderedWeights, compositing_weights
from tests.lifting.view_fakes import GAUSSIANS, HEIGHT, LATENT_DIM, LEVELS, WIDTH, DenseWeights, make_view
from tests.rasterization.gaussian_scenes import small_scene


def lift(views: list[RegionView], region_weights: list[Tensor] | None = None) -> LiftedLatents:
    return average_views(views, region_weights, GAUSSIANS, LEVELS, LATENT_DIM).solve()


def slow_sums(views: list[RegionView], region_weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Sums of weighted latents and of weights, pixel by pixel."""
    sums, mass = torch.zeros(GAUSSIANS, LEVELS, LATENT_DIM), torch.zeros(GAUSSIANS, LEVELS)
    for view, own in zip(views, region_weights, strict=True):
        for level in range(LEVELS):
            for pixel in range(HEIGHT * WIDTH):
                region = int(view.regions[level].flatten()[pixel])
                if region >= 0:
                    weights = own[region] * view.operator.matrix[pixel]
                    sums[:, level] += weights[:, None] * view.latents[region]
                    mass[:, level] += weights
    return sums, mass


@pytest.mark.parametrize("weighted", [False, True])
def test_the_average_is_the_weighted_mean_over_all_labeled_pixels_of_all_views(weighted: bool) -> None:
    views = [make_view(seed) for seed in range(3)]
    generator = torch.Generator().manual_seed(9)
    region_weights = [torch.rand(8, generator=generator) if weighted else torch.ones(8) for _ in views]
    lifted = lift(views, region_weights=region_weights if weighted else None)
    sums, mass = slow_sums(views, region_weights)
    assert torch.allclose(lifted.mass, mass, atol=1e-5)
    assert torch.allclose(lifted.latents, torch.nn.functional.normalize(sums, dim=-1), atol=1e-5)


def test_gaussians_without_a_region_have_a_latent_of_zero_and_count_as_unseen() -> None:
    lifted = lift([make_view(0)])
    assert not lifted.latents[-1].any() and not lifted.mass[-1].any() and not lifted.seen[-1].any()
    assert bool(lifted.seen[:-1].all())
    assert torch.allclose(lifted.latents[:-1].norm(dim=-1), torch.ones(GAUSSIANS - 1, LEVELS), atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_gaussians_with_only_a_trace_of_mass_count_as_unseen(scale: float) -> None:
    weights = scale * torch.tensor([[0.9, 0.5, 1e-3, 1e-9, 0.0, 0.5]])
    regions = torch.zeros(LEVELS, 1, 1, dtype=torch.int32)
    regions[1] = -1
    view = RegionView(DenseWeights(weights, 1, 1), regions, torch.eye(LATENT_DIM)[:1])
    lifted = lift([view])
    assert lifted.seen[:, 0].tolist() == [True, True, True, False, False, True]
    assert not lifted.seen[:, 1].any()
    assert lifted.mass[3, 0] > 0, "The mass keeps the trace."


def test_added_sums_have_the_mass_floor_of_all_views() -> None:
    hazy, clear = make_view(0), make_view(1)
    hazy = replace(hazy, operator=DenseWeights(1e-8 * hazy.operator.matrix, HEIGHT, WIDTH))
    parts = [average_views([view], None, GAUSSIANS, LEVELS, LATENT_DIM) for view in (hazy, clear)]
    joined = parts[0]
    joined.sums += parts[1].sums
    assert torch.allclose(joined.solve().latents, lift([hazy, clear]).latents, atol=1e-6)


def test_the_order_of_views_does_not_matter_to_the_mean() -> None:
    views = [make_view(seed) for seed in range(4)]
    assert torch.allclose(lift(views).latents, lift(views[::-1]).latents, atol=1e-5)


def test_rendering_gives_the_same_latents_as_the_weights() -> None:
    """`RenderedWeights`, which CUDA uses, on the CPU."""
    scene = small_scene()
    regions = (torch.arange(scene.height * scene.width) // 97 % 6 - 1).view(1, scene.height, scene.width)
    regions = regions.repeat(LEVELS, 1, 1).int()
    latents = torch.nn.functional.normalize(torch.randn(5, 20, generator=torch.Generator().manual_seed(0)), dim=1)
    operators = RenderedWeights(scene.gaussians, scene.view), compositing_weights(scene.gaussians, scene.view)
    lifted = [
        average_views([RegionView(operator, regions, latents)], None, len(scene.means), LEVELS, 20).solve()
        for operator in operators
    ]
    assert torch.allclose(lifted[0].mass, lifted[1].mass, rtol=1e-3, atol=1e-4)
    heavy = lifted[1].mass > 1e-3
    assert torch.allclose(lifted[0].latents[heavy], lifted[1].latents[heavy], atol=1e-3)
    rendered = [operator.composite(lifted[1].latents.flatten(1)) for operator in operators]
    assert torch.allclose(*rendered, atol=1e-4)


def test_targets_are_the_latents_of_the_regions_and_zero_elsewhere() -> None:
    regions = torch.tensor([[[0, -1], [1, 1]], [[2, 2], [-1, -1]]], dtype=torch.int32)
    latents = torch.eye(3)
    targets, valid = region_targets(regions, latents)
    assert targets.shape == (2, 2, 2, 3)
    assert torch.equal(targets[0, 0, 0], latents[0]) and torch.equal(targets[1, 1, 0], latents[1])
    assert torch.equal(targets[0, 1, 1], latents[2])
    assert not targets[~valid].any() and int(valid.sum()) == 5


def empty_view() -> RegionView:
    weights = DenseWeights(torch.full((HEIGHT * WIDTH, GAUSSIANS), 0.1), HEIGHT, WIDTH)
    regions = torch.full((LEVELS, HEIGHT, WIDTH), -1, dtype=torch.int32)
    return RegionView(weights, regions, torch.zeros(0, LATENT_DIM))


def test_a_view_without_regions_adds_nothing() -> None:
    assert torch.equal(lift([make_view(0), empty_view()]).latents, lift([make_view(0)]).latents)


def test_views_without_any_region_are_refused() -> None:
    with pytest.raises(GenLangSplatError, match=r"no region .* in 2 views, expected some.*gen-langsplat extract"):
        lift([empty_view(), empty_view()])


def test_a_scene_without_gaussians_is_refused() -> None:
    with pytest.raises(GenLangSplatError, match=r"no Gaussian .* expected at least one.*RGB phase"):
        average_views([], None, 0, LEVELS, LATENT_DIM)


def test_a_region_without_a_latent_is_refused() -> None:
    with pytest.raises(GenLangSplatError, match="contains region 2"):
        region_targets(torch.full((1, 2, 2), 2, dtype=torch.int32), torch.zeros(2, 4))


def test_latents_that_are_not_finite_are_refused_with_their_view() -> None:
    view = make_view(0)
    latents = view.latents.clone()
    latents[1, 0], latents[3, 2] = float("nan"), float("inf")
    with pytest.raises(GenLangSplatError, match=r"2 of the 8 latents of view 7 .*expected unit vectors.*extract"):
        RegionView(view.operator, view.regions, latents, "view 7")


def test_regions_of_another_size_than_the_view_are_refused() -> None:
    view = make_view(0)
    with pytest.raises(GenLangSplatError, match=r"view 7 are 4x4 pixels, but the view is 5x4.*Extract"):
        RegionView(view.operator, view.regions[:, :, :4], view.latents, "view 7")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(GenLangSplatError, match=r"robust_rounds.*choose"):
        LiftSettings(robust_rounds=-1).validate()
