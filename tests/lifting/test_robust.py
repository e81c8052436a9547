"""Robust lifting: what is rejected, and the least-squares fit against normal equations solved exactly."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genlangsplat_ns.lifting import robust as refinement
from genlangsplat_ns.lifting.average import LiftedLatents, LiftSettings, RegionView, accumulate
from genlangsplat_ns.lifting.residuals import (
    LEAST_TRUST,
    USUAL_SHARE,
    Disagreement,
    RegionReport,
    region_residuals,
    sum_residuals,
    summed_residual,
    usual_of_regions,
    usual_residuals,
)
from genlangsplat_ns.lifting.robust import LEAST_SAMPLE, SAMPLE_SHARE, lift_latents, sample_halves
from genlangsplat_ns.lifting.sharpening import sharpen
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

THINGS = 5
TRUTH = F.normalize(torch.randn(THINGS, LATENT_DIM, generator=torch.Generator().manual_seed(1)), dim=1)


def worst_cosine(views: list[RegionView], **options: int) -> float:
    """Of all Gaussians, the lowest cosine between the lifted latent and that of their thing."""
    lifted = lift_latents(views, 2 * THINGS, 1, LATENT_DIM, LiftSettings(**options))
    return float((lifted.latents[:, 0] * TRUTH.repeat_interleave(2, dim=0)).sum(dim=1).min())


def plain_average(views: list[RegionView], trust: list[Tensor] | None = None) -> LiftedLatents:
    return accumulate(views, trust, GAUSSIANS, LEVELS, LATENT_DIM, LiftSettings()).solve()


def one_view_in_five_is_wrong(view: int, thing: int) -> int:
    """Each wrong view in its own way."""
    return (thing + 1 + view // 5) % THINGS if view % 5 == 4 else thing


def test_one_mislabeled_view_in_five_leaves_the_true_latents_but_not_the_plain_average() -> None:
    views = labeled_scene(15, TRUTH, one_view_in_five_is_wrong)
    assert worst_cosine(views, robust_rounds=0) < 0.985
    assert worst_cosine(views) > 0.995
    assert worst_cosine(views, gradient_steps=2) > 0.995


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 3))
def test_scattered_wrong_regions_are_rejected(seed: int, wrong: int) -> None:
    """Of ten views up to three are wrong about a thing, each in its own way."""
    generator = torch.Generator().manual_seed(seed)
    liars = torch.stack([torch.randperm(10, generator=generator)[:wrong] for _ in range(THINGS)])
    shift = torch.randint(1, THINGS, (10, THINGS), generator=generator)

    def tell(view: int, thing: int) -> int:
        return (thing + int(shift[view, thing])) % THINGS if view in liars[thing] else thing

    views = labeled_scene(10, TRUTH, tell)
    assert worst_cosine(views) > min(0.98, worst_cosine(views, robust_rounds=0) - 1e-3)


def test_without_errors_the_rounds_change_next_to_nothing() -> None:
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


def test_pixels_that_show_nothing_say_nothing_about_their_region() -> None:
    weights = torch.tensor([[1.0], [0.0]])
    regions = torch.tensor([[[0, 0]]], dtype=torch.int32)
    view = RegionView(DenseWeights(weights, 1, 2), regions, torch.eye(2)[:1])
    shown = torch.eye(2)[:1].expand(1, 2, 1, 2).clone()
    shown[:, 1] = 0
    assert torch.allclose(region_residuals(view, shown), torch.zeros(1))
    assert bool(region_residuals(view, torch.zeros(1, 2, 1, 2)).isnan().all())


def judged(residuals: Tensor, usual: float, strength: float = 1.0) -> Tensor:
    """Trust in the regions of a view, all at places of the same usual residual."""
    return Disagreement([residuals], [torch.full_like(residuals, usual)]).trust(strength)[0]


def test_trust_falls_with_the_residual_and_is_never_lost() -> None:
    residuals = torch.tensor([0.0, 0.2, 0.4, 2.0, float("nan"), 0.1])
    # The median of the finite ones is 0.2.
    expected = torch.tensor([1.0, 0.6065, 0.1353, LEAST_TRUST, 1.0, 0.8825])
    assert torch.allclose(judged(residuals, 0.0), expected, atol=1e-4)
    assert torch.allclose(judged(0.5 * residuals, 0.0, strength=2.0), judged(2 * residuals, 0.0, 2.0), atol=1e-4)
    assert torch.equal(judged(residuals, 0.0, strength=0.0), torch.ones(6))


def test_what_is_usual_at_a_place_is_believed_more() -> None:
    residuals = torch.tensor([0.0, 0.2, 0.4, 2.0])
    usual = torch.exp(-0.5 * (residuals / (USUAL_SHARE * 2)) ** 2)
    assert torch.allclose(judged(residuals, 2.0), usual, atol=1e-4)


def test_a_region_is_also_judged_by_what_the_other_levels_say() -> None:
    """Three of four views are wrong about one level and right about the two others."""
    truth, wrong = torch.eye(4)[0], torch.eye(4)[1:]
    views = []
    for number in range(4):
        latents = torch.stack([truth if number == 3 else wrong[number], truth, truth])
        regions = torch.arange(3).view(3, 1, 1).int()
        views.append(RegionView(DenseWeights(torch.ones(1, 1), 1, 1), regions, latents))
    plain = lift_latents(views, 1, 3, 4, LiftSettings(robust_rounds=0)).latents
    robust = lift_latents(views, 1, 3, 4, LiftSettings()).latents
    assert torch.allclose(plain[0, 0] @ truth, torch.tensor(0.5))
    assert float(robust[0, 0] @ truth) > 0.95


def test_the_usual_residual_of_a_gaussian_is_the_mean_over_what_it_shows() -> None:
    views = [make_view(seed) for seed in range(3)]
    trust = [torch.linspace(0.1, 1.0, 8) for _ in views]
    residuals, found = sum_residuals(views, plain_average(views).latents, trust)
    sums, weights = torch.zeros(GAUSSIANS, LEVELS), torch.zeros(GAUSSIANS, LEVELS)
    for view, of_view, believed in zip(views, residuals, trust, strict=True):
        for level in range(LEVELS):
            for pixel, region in enumerate(view.regions[level].flatten().tolist()):
                if region >= 0:
                    share = believed[region] * view.operator.matrix[pixel]
                    sums[:, level] += share * of_view[region]
                    weights[:, level] += share
    assert torch.allclose(usual_residuals(found), sums / weights.clamp_min(1e-6), atol=1e-4)


def test_what_is_usual_where_a_region_lies_is_the_mean_over_its_pixels_by_weight() -> None:
    view, usual = (
        with_embeddings(make_view(2), 2),
        torch.rand(GAUSSIANS, LEVELS, generator=torch.Generator().manual_seed(0)),
    )
    found = usual_of_regions(view, usual)
    for region in range(len(view.latents)):
        weights = view.operator.matrix[view.regions[region // 4].flatten() == region].sum(dim=0)
        expected = (weights * usual[:, region // 4]).sum() / weights.sum().clamp_min(1e-6)
        assert float(found[region]) == pytest.approx(float(expected), abs=1e-5)


def test_a_report_holds_residual_usual_and_what_views_together_say() -> None:
    view, usual = (
        with_embeddings(make_view(2), 2),
        torch.rand(GAUSSIANS, LEVELS, generator=torch.Generator().manual_seed(0)),
    )
    latents = plain_average([make_view(seed) for seed in range(3)]).latents
    report = RegionReport.unpacked(RegionReport.of(view, latents, usual).packed(), LATENT_DIM)
    assert torch.equal(report.residuals.nan_to_num(9.0), sum_residuals([view], latents, None)[0][0].nan_to_num(9.0))
    assert torch.equal(report.usual, usual_of_regions(view, usual))
    for region in range(len(view.latents)):
        weights = view.operator.matrix[view.regions[region // 4].flatten() == region].sum(dim=0)
        said = F.normalize(weights @ latents[:, region // 4], dim=0)
        assert torch.allclose(report.consensus.latents[region], said, atol=1e-5)
    assert view.embeddings is not None and torch.equal(report.consensus.embeddings, view.embeddings.half())


def test_left_out_views_are_measured_pixel_by_pixel() -> None:
    truth = torch.eye(3)[:2]
    (view,) = labeled_scene(1, truth)
    right, wrong = truth.repeat_interleave(2, dim=0)[:, None], truth.flip(0).repeat_interleave(2, dim=0)[:, None]
    for latents, least, most in ((right, 0.0, 0.01), (wrong, 0.9, 1.0)):
        residual, count = summed_residual(view, latents).tolist()
        assert count == 3
        assert least <= residual / count <= most


@pytest.mark.parametrize("num_views", [0, 1, 2, 7, 40, 41, 300, 1001])
def test_the_sample_is_spread_over_all_views_and_cut_in_two(num_views: int) -> None:
    first, second = sample_halves(num_views)
    sample = sorted({*first, *second})
    assert len(sample) == len(first) + len(second) == min(num_views, max(LEAST_SAMPLE, -(-num_views // SAMPLE_SHARE)))
    assert 0 <= len(first) - len(second) <= 1
    gaps = [after - before for before, after in pairwise(sample)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_views_outside_the_sample_are_judged_too() -> None:
    views = labeled_scene(60, TRUTH, one_view_in_five_is_wrong)
    lifted = lift_latents(views, 2 * THINGS, 1, LATENT_DIM, LiftSettings())
    assert lifted.region_weights is not None and lifted.region_consensus is not None
    wrong = torch.tensor([one_view_in_five_is_wrong(number, 0) != 0 for number in range(60)])
    trust = torch.stack(lifted.region_weights)
    assert float(trust[wrong].mean()) < 0.5 * float(trust[~wrong].mean())
    said = torch.stack([consensus.latents for consensus in lifted.region_consensus])
    assert bool(((said * TRUTH).sum(dim=-1) > 0.98).all())


def test_where_things_look_different_by_right_judging_costs_next_to_nothing() -> None:
    """Every region of every view scatters about the same, by 0.6 of its length: none of them is wrong."""
    generator = torch.Generator().manual_seed(0)
    views = [
        RegionView(
            view.operator,
            view.regions,
            F.normalize(TRUTH + 0.35 * torch.randn(THINGS, LATENT_DIM, generator=generator)),
        )
        for view in labeled_scene(40, TRUTH)
    ]
    plain, robust = (
        lift_latents(views, 2 * THINGS, 1, LATENT_DIM, LiftSettings(robust_rounds=rounds)) for rounds in (0, 2)
    )
    truth = TRUTH.repeat_interleave(2, dim=0)
    found, expected = (F.cosine_similarity(lifted.latents[:, 0], truth) for lifted in (robust, plain))
    assert (found > expected - 0.02).all()


def test_no_region_is_judged_where_that_predicts_left_out_views_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "WORST", 0.0)
    views = labeled_scene(20, TRUTH)
    plain, robust = (
        lift_latents(views, 2 * THINGS, 1, LATENT_DIM, LiftSettings(robust_rounds=rounds)) for rounds in (0, 2)
    )
    assert torch.equal(plain.latents, robust.latents)
    assert robust.region_weights is not None and all(bool((trust == 1).all()) for trust in robust.region_weights)


def test_residuals_of_nothing_are_no_disagreement() -> None:
    view = RegionView(DenseWeights(torch.zeros(2, 1), 1, 2), torch.zeros(1, 1, 2, dtype=torch.int32), torch.eye(2)[:1])
    residuals, sums = sum_residuals([view], torch.zeros(1, 1, 2), None)
    usual = [usual_of_regions(view, usual_residuals(sums))]
    assert torch.equal(Disagreement(residuals, usual).trust()[0], torch.ones(1))


def exact_fit(views: list[RegionView], start: Tensor, mass: Tensor, level: int, trust: list[Tensor], damping: float):
    """Solves the normal equations of one level with dense matrices in double precision."""
    left = damping * torch.diag(mass).double()
    right = damping * mass[:, None].double() * start.double()
    for view, believed in zip(views, trust, strict=True):
        matrix = view.operator.matrix.double()
        targets = view.paint(view.latents)[:, :, level].flatten(0, 1).double()
        weights = view.paint(believed[:, None])[:, :, level].flatten().double()
        left += matrix.T @ (weights[:, None] * matrix)
        right += matrix.T @ (weights[:, None] * targets)
    return torch.linalg.pinv(left) @ right


@pytest.mark.parametrize("damping", [0.01, 0.1, 1.0])
def test_many_steps_of_conjugate_gradients_solve_the_normal_equations(damping: float) -> None:
    views = [make_view(seed) for seed in range(5)]
    generator = torch.Generator().manual_seed(2)
    trust = [0.1 + torch.rand(8, generator=generator) for _ in views]
    aggregated = plain_average(views, trust)
    fitted = sharpen(views, aggregated, trust, steps=30, damping=damping)
    for level in range(LEVELS):
        exact = exact_fit(views, aggregated.latents[:, level], aggregated.mass[:, level], level, trust, damping)
        assert torch.allclose(fitted.latents[:-1, level].double(), F.normalize(exact[:-1], dim=1), atol=1e-3)
    assert not fitted.latents[-1].any()


def test_each_step_of_conjugate_gradients_comes_closer() -> None:
    views = [make_view(seed) for seed in range(5)]
    trust = [torch.ones(8) for _ in views]
    aggregated = plain_average(views)
    exact = exact_fit(views, aggregated.latents[:, 0], aggregated.mass[:, 0], 0, trust, 0.1)
    distances = [
        float((sharpen(views, aggregated, None, steps, 0.1).latents[:-1, 0] - F.normalize(exact[:-1], dim=1)).norm())
        for steps in (0, 1, 3, 10)
    ]
    assert distances == sorted(distances, reverse=True)


def test_both_routes_give_the_same_refined_latents() -> None:
    """Robust rounds and conjugate gradients on the route that CUDA takes and on the weights, both on the CPU."""
    scene = small_scene()
    generator = torch.Generator().manual_seed(0)
    regions = (torch.arange(scene.height * scene.width) // 97 % 6 - 1).view(1, scene.height, scene.width).int()
    latents = F.normalize(torch.randn(5, 8, generator=generator), dim=1)
    options = LiftSettings(gradient_steps=1)
    lifted = [
        lift_latents([RegionView(operator, regions, latents)], len(scene.means), 1, 8, options)
        for operator in (
            RenderedWeights(scene.gaussians, scene.view),
            compositing_weights(scene.gaussians, scene.view),
        )
    ]
    heavy = lifted[1].mass > 1e-2
    cosine = (lifted[0].latents * lifted[1].latents).sum(dim=-1)[heavy]
    assert bool((cosine > 0.999).all())


def test_a_scene_that_fits_exactly_has_nothing_to_sharpen() -> None:
    truth = torch.eye(3)[:1]
    views = labeled_scene(3, truth)
    lifted = lift_latents(views, 2, 1, 3, LiftSettings(gradient_steps=5))
    assert bool(lifted.latents.isfinite().all())
    assert torch.allclose(lifted.latents[:, 0], truth.expand(2, -1), atol=1e-5)
