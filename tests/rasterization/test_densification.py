"""Densification within a budget."""

from __future__ import annotations

from typing import Any

import gsplat
import pytest
import torch
from gsplat.strategy import DefaultStrategy
from packaging.version import Version
from torch import nn

from genlangsplat_ns.rasterization.densification import BudgetedStrategy

REFINE_EVERY = 10


def refine(
    count: int,
    max_gaussians: int | None,
    seed: int = 0,
    gradient: float = 1.0,
    share_of_screen: float = 0.0,
    last_gradient: float = 0.0,
) -> int:
    """Runs one refinement; returns the number of Gaussians afterwards.

    With the default gradient, nine tenths of the Gaussians are above the threshold. `last_gradient` is that of the step
    with the refinement itself, in which all are visible unless it is zero.
    """
    generator = torch.Generator().manual_seed(seed)
    params = nn.ParameterDict(
        {
            "means": nn.Parameter(torch.rand(count, 3, generator=generator)),
            "scales": nn.Parameter(torch.full((count, 3), -8.0)),
            "quats": nn.Parameter(torch.ones(count, 4)),
            "opacities": nn.Parameter(torch.zeros(count, 1)),
        }
    )
    optimizers = {name: torch.optim.Adam([parameter]) for name, parameter in params.items()}
    strategy = BudgetedStrategy(
        refine_start_iter=0,
        refine_every=REFINE_EVERY,
        reset_every=1000,
        grow_grad2d=0.1,
        refine_scale2d_stop_iter=1000,
        max_gaussians=max_gaussians,
        verbose=False,
    )
    state: dict[str, Any] = strategy.initialize_state(scene_scale=1.0)
    state["grad2d"] = gradient * torch.rand(count, generator=generator)
    state["count"] = torch.ones(count)
    state["radii"] = torch.full((count,), share_of_screen)
    means2d = torch.zeros(1, count, 2, requires_grad=True)
    means2d.grad = last_gradient * torch.rand(1, count, 2, generator=generator)
    info = {
        "means2d": means2d,
        "radii": torch.full((1, count), int(last_gradient > 0), dtype=torch.int32),
        "width": 10,
        "height": 10,
        "n_cameras": 1,
        "gaussian_ids": None,
    }
    strategy.step_post_backward(params, optimizers, state, REFINE_EVERY, info, packed=False)
    assert (strategy.grow_grad2d, strategy.grow_scale2d) == (0.1, BudgetedStrategy.grow_scale2d)
    return len(params["means"])


def test_without_a_budget_all_gaussians_above_the_threshold_grow() -> None:
    assert 185 <= refine(100, None) <= 198


@pytest.mark.parametrize("seed", range(5))
def test_a_budget_is_filled_and_not_exceeded(seed: int) -> None:
    assert refine(100, 130, seed) == 130


@pytest.mark.parametrize("budget", [100, 101, 130])
def test_gradients_of_the_refining_step_count_in_the_budget(budget: int) -> None:
    """They alone are above the threshold."""
    assert refine(100, None, gradient=0.01, last_gradient=1.0) > 150
    assert refine(100, budget, gradient=0.01, last_gradient=1.0) == budget


def test_a_full_or_overfull_budget_stops_growth() -> None:
    assert refine(100, 100) == 100
    assert refine(100, 60) == 100


@pytest.mark.parametrize(("budget", "expected"), [(None, 200), (250, 200), (200, 200), (150, 100), (100, 100)])
def test_splits_of_large_gaussians_are_within_the_budget(budget: int | None, expected: int) -> None:
    """All Gaussians are large on the screen, and none has a gradient."""
    assert refine(100, budget, gradient=0.0, share_of_screen=0.1) == expected


def test_a_wide_budget_changes_nothing() -> None:
    assert refine(100, 1000) == refine(100, None)


@pytest.mark.parametrize(("step", "reset"), [(0, True), (20, True), (30, False), (40, False)])
def test_opacities_are_reset_at_every_multiple_until_refinement_stops(step: int, reset: bool) -> None:
    params = nn.ParameterDict({"means": nn.Parameter(torch.zeros(5, 3)), "opacities": nn.Parameter(torch.ones(5, 1))})
    optimizers = {name: torch.optim.Adam([parameter]) for name, parameter in params.items()}
    strategy = BudgetedStrategy(refine_stop_iter=40, refine_start_iter=100, reset_every=20, prune_opa=0.05)
    state: dict[str, Any] = strategy.initialize_state(scene_scale=1.0)
    strategy.step_post_backward(params, optimizers, state, step, images(5, 1)[0])
    expected = torch.logit(torch.tensor(0.1)) if reset else torch.tensor(1.0)
    assert torch.allclose(params["opacities"], expected.expand(5, 1))
    assert optimizers["opacities"].param_groups[0]["params"][0] is params["opacities"]


def images(count: int, number: int) -> list[dict[str, Any]]:
    """Results of the rasterizer for several images; a third of the Gaussians is invisible and has no gradient."""
    generator = torch.Generator().manual_seed(0)
    reports = []
    for _ in range(number):
        radii = torch.randint(0, 40, (1, count), generator=generator, dtype=torch.int32)
        radii[torch.rand(1, count, generator=generator) < 1 / 3] = 0
        means2d = torch.zeros(1, count, 2, requires_grad=True)
        means2d.grad = torch.randn(1, count, 2, generator=generator) * (radii > 0)[..., None]
        means2d.absgrad = means2d.grad.abs() * 1.5
        reports.append(
            {"means2d": means2d, "radii": radii, "width": 31, "height": 17, "n_cameras": 1, "gaussian_ids": None}
        )
    return reports


@pytest.mark.parametrize("absgrad", [False, True])
@pytest.mark.parametrize("refine_scale2d_stop_iter", [0, 100])
def test_running_sums_equal_those_of_gsplat(absgrad: bool, refine_scale2d_stop_iter: int) -> None:
    params = nn.ParameterDict({"means": nn.Parameter(torch.zeros(50, 3))})
    states = []
    for kind in (DefaultStrategy, BudgetedStrategy):
        strategy = kind(absgrad=absgrad, refine_scale2d_stop_iter=refine_scale2d_stop_iter)
        state: dict[str, Any] = strategy.initialize_state(scene_scale=1.0)
        for report in images(50, 3):
            if kind is DefaultStrategy and Version(gsplat.__version__) >= Version("1.5"):
                report["radii"] = report["radii"][..., None].expand(-1, -1, 2)
            strategy._update_state(params, state, report, packed=False)
        states.append(state)
    expected, found = states
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.allclose(torch.as_tensor(found[name]), torch.as_tensor(value)), name
    assert expected["grad2d"].max() > 1
