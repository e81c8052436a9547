"""Robust lifting rejects wrong regions; the least-squares fit solves the normal equations."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genlangsplat_ns.lifting import robust
from genlangsplat_ns.lifting.average import LiftedLatents, average_views
from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.lifting.residuals import (
    EXPECTED_SHARE,
    MIN_REGION_WEIGHT,
    RegionStatistics,
    Residuals,
    expected_residuals,
    mean_in_regions,
    pixel_residual,
    region_residuals,
    sum_residuals,
)
from genlangsplat_ns.lifting.robust import MIN_SAMPLE, SAMPLE_EVERY, lift_latents, sample_halves
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.rasterization import RenderedWeights, compositing_weights
from tests.lifting.view_fakes import (
    GAUSSIANS,
    LATENT_DIM,
    LEVELS,
    DenseWeights,
    labeled_scene,
    make_view,
    with_embeddings,
)
from tests.rasterization.gaussian_scenes import small_scene

OBJECTS = 5
TRUTH = F.normalize(torch.randn(OBJECTS, LATENT_DIM, generator=torch.Generator().manual_seed(1)), dim=1)


def worst_cosine(views: list[RegionView], **options: int) -> float:
    """The lowest cosine of all Gaussians between the lifted latent and that of their object."""
    lifted = lift_latents(views, 2 * OBJECTS, 1, LATENT_DIM, LiftSettings(**options))
    return float((lifted.latents[:, 0] * TRUTH.repeat_interleave(2, dim=0)).sum(dim=1).min())


def plain_average(views: list[RegionView], region_weights: list[Tensor] | None = None) -> LiftedLatents:
    return average_views(views, region_weights, GAUSSIANS, LEVELS, LATENT_DIM).solve()


def one_view_in_five_is_wrong(view: int, item: int) -> int:
    """Each wrong view in its own way."""
    return (item + 1 + view // 5) % OBJECTS if view % 5 == 4 else item


def test_one_mislabeled_view_in_five_changes_the_plain_average_but_not_robust_latents() -> None:
    views = labeled_scene(15, TRUTH, one_view_in_five_is_wrong)
    assert worst_cosine(views, robust_rounds=0) < 0.985
    assert worst_cosine(views) > 0.995


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 3))
def test_scattered_wrong_regions_are_rejected(seed: int, wrong: int) -> None:
    """Up to three of ten views are wrong about an object, each in its own way."""
    generator = torch.Generator().manual_seed(seed)
    wrong_views = torch.stack([torch.randperm(10, generator=generator)[:wrong] for _ in range(OBJECTS)])
    shift = torch.randint(1, OBJECTS, (10, OBJECTS), generator=generator)

    def label(view: int, item: int) -> int:
        return (item + int(shift[view, item])) % OBJECTS if view in wrong_views[item] else item

    views = labeled_scene(10, TRUTH, label)
    assert worst_cosine(views) > min(0.98, worst_cosine(views, robust_rounds=0) - 1e-3)


def test_without_errors_the_rounds_change_almost_nothing() -> None:
    views = labeled_scene(10, TRUTH)
    assert worst_cosine(views) == pytest.approx(worst_cosine(views, robust_rounds=0), abs=1e-3)


def test_residuals_are_means_over_the_pixels_of_a_region() -> None:
    view = make_view(4)
    latents = plain_average([view]).latents
    residuals = region_residuals(view, view.operator.composite(latents.flatten(1)).unflatten(-1, latents.shape[1:]))
    for region in range(len(view.latents)):
        level = region // 4
        pixels = (view.regions[level].flatten() == region).nonzero().flatten().tolist()
        rendered = [view.operator.matrix[pixel] @ latents[:, level] for pixel in pixels]
        expected = [1 - F.cosine_similarity(pixel, view.latents[region], dim=0) for pixel in rendered]
        if expected:
            assert float(residuals[region]) == pytest.approx(float(sum(expected) / len(expected)), abs=1e-5)
        else:
            assert bool(residuals[region].isnan())


def test_pixels_without_a_rendered_latent_do_not_count_in_residuals() -> None:
    weights = torch.tensor([[1.0], [0.0]])
    regions = torch.tensor([[[0, 0]]], dtype=torch.int32)
    view = RegionView(DenseWeights(weights, 1, 2), regions, torch.eye(2)[:1])
    shown = torch.eye(2)[:1].expand(1, 2, 1, 2).clone()
    shown[:, 1] = 0
    assert torch.allclose(region_residuals(view, shown), torch.zeros(1))
    assert bool(region_residuals(view, torch.zeros(1, 2, 1, 2)).isnan().all())


def weights_of(residuals: Tensor, expected: float, strength: float = 1.0) -> Tensor:
    """Weights of the regions of a view with the same expected residual."""
    return Residuals([residuals], [torch.full_like(residuals, expected)]).region_weights(strength)[0]


def test_region_weights_fall_with_the_residual_and_have_a_lower_bound() -> None:
    residuals = torch.tensor([0.0, 0.2, 0.4, 2.0, float("nan"), 0.1])
    # The median of the finite residuals is 0.2.
    expected = torch.tensor([1.0, 0.6065, 0.1353, MIN_REGION_WEIGHT, 1.0, 0.8825])
    assert torch.allclose(weights_of(residuals, 0.0), expected, atol=1e-4)
    assert torch.allclose(
        weights_of(0.5 * residuals, 0.0, strength=2.0), weights_of(2 * residuals, 0.0, 2.0), atol=1e-4
    )
    assert torch.equal(weights_of(residuals, 0.0, strength=0.0), torch.ones(6))


def test_expected_residuals_are_penalized_less() -> None:
    residuals = torch.tensor([0.0, 0.2, 0.4, 2.0])
    expected = torch.exp(-0.5 * (residuals / (EXPECTED_SHARE * 2)) ** 2)
    assert torch.allclose(weights_of(residuals, 2.0), expected, atol=1e-4)


def test_other_levels_reduce_the_weight_of_a_wrong_region() -> None:
    """Three of four views are wrong about one level and right about the two others."""
    truth, wrong = torch.eye(4)[0], torch.eye(4)[1:]
    views = []
    for number in range(4):
        latents = torch.stack([truth if number == 3 else wrong[number], truth, truth])
        regions = torch.arange(3).view(3, 1, 1).int()
        views.append(RegionView(DenseWeights(torch.ones(1, 1), 1, 1), regions, latents))
    plain = lift_latents(views, 1, 3, 4, LiftSettings(robust_rounds=0)).latents
    found = lift_latents(views, 1, 3, 4, LiftSettings()).latents
    assert torch.allclose(plain[0, 0] @ truth, torch.tensor(0.5))
    assert float(found[0, 0] @ truth) > 0.95


def test_the_expected_residual_of_a_gaussian_is_the_mean_over_its_regions() -> None:
    views = [make_view(seed) for seed in range(3)]
    region_weights = [torch.linspace(0.1, 1.0, 8) for _ in views]
    residuals, found = sum_residuals(views, plain_average(views).latents, region_weights)
    sums, weights = torch.zeros(GAUSSIANS, LEVELS), torch.zeros(GAUSSIANS, LEVELS)
    for view, of_view, own in zip(views, residuals, region_weights, strict=True):
        for level in range(LEVELS):
            for pixel, region in enumerate(view.regions[level].flatten().tolist()):
                if region >= 0:
                    share = own[region] * view.operator.matrix[pixel]
                    sums[:, level] += share * of_view[region]
                    weights[:, level] += share
    assert torch.allclose(expected_residuals(found), sums / weights.clamp_min(1e-6), atol=1e-4)


def test_the_mean_in_a_region_is_weighted_by_compositing_weights() -> None:
    view = make_view(2)
    values = torch.rand(GAUSSIANS, LEVELS, generator=torch.Generator().manual_seed(0))
    found = mean_in_regions(view, values)
    for region in range(len(view.latents)):
        weights = view.operator.matrix[view.regions[region // 4].flatten() == region].sum(dim=0)
        expected = (weights * values[:, region // 4]).sum() / weights.sum().clamp_min(1e-6)
        assert float(found[region]) == pytest.approx(float(expected), abs=1e-5)


def test_statistics_hold_residuals_expected_residuals_and_consensus() -> None:
    view = with_embeddings(make_view(2), 2)
    expected = torch.rand(GAUSSIANS, LEVELS, generator=torch.Generator().manual_seed(0))
    latents = plain_average([make_view(seed) for seed in range(3)]).latents
    statistics = RegionStatistics.of(view, latents, expected)
    residuals = sum_residuals([view], latents, None)[0][0]
    assert torch.equal(statistics.residuals.nan_to_num(9.0), residuals.nan_to_num(9.0))
    assert torch.equal(statistics.expected, mean_in_regions(view, expected))
    for region in range(len(view.latents)):
        weights = view.operator.matrix[view.regions[region // 4].flatten() == region].sum(dim=0)
        consensus = F.normalize(weights @ latents[:, region // 4], dim=0)
        assert torch.allclose(statistics.consensus.latents[region], consensus, atol=1e-5)
    assert view.embeddings is not None and torch.equal(statistics.consensus.embeddings, view.embeddings.half())


def test_the_pixel_residual_is_small_for_true_latents_and_large_for_wrong_ones() -> None:
    truth = torch.eye(3)[:2]
    (view,) = labeled_scene(1, truth)
    right, wrong = truth.repeat_interleave(2, dim=0)[:, None], truth.flip(0).repeat_interleave(2, dim=0)[:, None]
    for latents, least, most in ((right, 0.0, 0.01), (wrong, 0.9, 1.0)):
        residual, count = pixel_residual(view, latents).tolist()
        assert count == 3
        assert least <= residual / count <= most


@pytest.mark.parametrize("num_views", [0, 1, 2, 7, 40, 41, 300, 1001])
def test_the_sample_is_spread_over_all_views_and_split_in_halves(num_views: int) -> None:
    first, second = sample_halves(num_views)
    sample = sorted({*first, *second})
    assert len(sample) == len(first) + len(second) == min(num_views, max(MIN_SAMPLE, -(-num_views // SAMPLE_EVERY)))
    assert 0 <= len(first) - len(second) <= 1
    gaps = [after - before for before, after in pairwise(sample)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_views_outside_the_sample_are_reweighted_too() -> None:
    views = labeled_scene(60, TRUTH, one_view_in_five_is_wrong)
    lifted = lift_latents(views, 2 * OBJECTS, 1, LATENT_DIM, LiftSettings())
    assert lifted.region_weights is not None and lifted.region_consensus is not None
    wrong = torch.tensor([one_view_in_five_is_wrong(number, 0) != 0 for number in range(60)])
    weights = torch.stack(lifted.region_weights)
    assert float(weights[wrong].mean()) < 0.5 * float(weights[~wrong].mean())
    found = torch.stack([consensus.latents for consensus in lifted.region_consensus])
    assert bool(((found * TRUTH).sum(dim=-1) > 0.98).all())


def test_legitimate_differences_between_views_cost_almost_nothing() -> None:
    """All regions scatter by about 0.6 of their length, and none of them is wrong."""
    generator = torch.Generator().manual_seed(0)
    views = [
        RegionView(
            view.operator,
            view.regions,
            F.normalize(TRUTH + 0.35 * torch.randn(OBJECTS, LATENT_DIM, generator=generator)),
        )
        for view in labeled_scene(40, TRUTH)
    ]
    plain, weighted = (
        lift_latents(views, 2 * OBJECTS, 1, LATENT_DIM, LiftSettings(robust_rounds=rounds)) for rounds in (0, 2)
    )
    truth = TRUTH.repeat_interleave(2, dim=0)
    found, expected = (F.cosine_similarity(lifted.latents[:, 0], truth) for lifted in (weighted, plain))
    assert (found > expected - 0.02).all()


def test_all_regions_have_weight_one_if_weights_increase_the_left_out_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust, "MAX_RESIDUAL_RATIO", 0.0)
    views = labeled_scene(20, TRUTH)
    plain, weighted = (
        lift_latents(views, 2 * OBJECTS, 1, LATENT_DIM, LiftSettings(robust_rounds=rounds)) for rounds in (0, 2)
    )
    assert torch.equal(plain.latents, weighted.latents)
    assert weighted.region_weights is not None
    assert all(bool((weights == 1).all()) for weights in weighted.region_weights)


def test_regions_without_a_rendered_latent_keep_their_weight() -> None:
    view = RegionView(DenseWeights(torch.zeros(2, 1), 1, 2), torch.zeros(1, 1, 2, dtype=torch.int32), torch.eye(2)[:1])
    residuals, sums = sum_residuals([view], torch.zeros(1, 1, 2), None)
    expected = [mean_in_regions(view, expected_residuals(sums))]
    assert torch.equal(Residuals(residuals, expected).region_weights()[0], torch.ones(1))


def test_rendering_and_stored_weights_give_the_same_robust_latents() -> None:
    scene = small_scene()
    generator = torch.Generator().manual_seed(0)
    regions = (torch.arange(scene.height * scene.width) // 97 % 6 - 1).view(1, scene.height, scene.width).int()
    latents = F.normalize(torch.randn(5, 8, generator=generator), dim=1)
    lifted = [
        lift_latents([RegionView(operator, regions, latents)], len(scene.means), 1, 8, LiftSettings())
        for operator in (
            RenderedWeights(scene.gaussians, scene.view),
            compositing_weights(scene.gaussians, scene.view),
        )
    ]
    heavy = lifted[1].mass > 1e-2
    cosine = (lifted[0].latents * lifted[1].latents).sum(dim=-1)[heavy]
    assert bool((cosine > 0.999).all())
