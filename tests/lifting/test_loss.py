"""The paper's language loss: its values, and gradients that Adam can use at latents of zero."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.lifting.loss import COSINE_FLOOR, language_fidelity, language_loss
from genlangsplat_ns.lifting.regions import RegionView, region_targets
from tests.lifting.view_fakes import labeled_scene

PIXELS, LATENT_DIM = 7, 5


def pixels(length: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rendered latents of a length, unit targets, and a validity mask that excludes the last pixel."""
    generator = torch.Generator().manual_seed(seed)
    rendered, targets = F.normalize(torch.randn(2, PIXELS, LATENT_DIM, generator=generator), dim=-1)
    return length * rendered, targets, torch.arange(PIXELS) < PIXELS - 1


@pytest.mark.parametrize("length", [COSINE_FLOOR, 0.5, 3.0])
def test_the_loss_is_l1_and_the_exact_cosine_unless_rendered_latents_are_short(length: float) -> None:
    rendered, targets, valid = pixels(length)
    l1, one_minus_cosine = language_loss(rendered, targets, valid)
    torch.testing.assert_close(l1, (rendered - targets)[valid].abs().mean())
    torch.testing.assert_close(one_minus_cosine, 1 - F.cosine_similarity(rendered, targets, dim=-1)[valid].mean())


def test_the_cosine_of_the_loss_fades_where_rendered_latents_are_short() -> None:
    rendered, targets, valid = pixels(0.25 * COSINE_FLOOR)
    _, one_minus_cosine = language_loss(rendered, targets, valid)
    _, cosine = language_fidelity(rendered, targets, valid)
    torch.testing.assert_close(1 - one_minus_cosine, 0.25 * cosine)


@pytest.mark.parametrize("length", [1e-3, 0.25 * COSINE_FLOOR, 1.0])
def test_the_metric_is_the_exact_cosine_at_every_length(length: float) -> None:
    rendered, targets, valid = pixels(length)
    l1, cosine = language_fidelity(rendered, targets, valid)
    torch.testing.assert_close(l1, (rendered - targets)[valid].abs().mean())
    torch.testing.assert_close(cosine, F.cosine_similarity(rendered, targets, dim=-1)[valid].mean())


@pytest.mark.parametrize("length", [0.0, 1e-20, 1e-8, 1e-3, 0.5 * COSINE_FLOOR, COSINE_FLOOR, 1.0])
def test_the_gradient_is_bounded_at_zero_and_near_it(length: float) -> None:
    rendered, targets, valid = pixels(length)
    rendered.requires_grad_()
    _, one_minus_cosine = language_loss(rendered, targets, valid)
    (gradient,) = torch.autograd.grad(one_minus_cosine, rendered)
    lengths = gradient.norm(dim=-1) * valid.sum()
    assert gradient.isfinite().all()
    assert (lengths <= 10.01).all()
    assert (lengths[valid] > 0).all() and lengths[~valid] == 0


def test_at_zero_the_gradient_points_away_from_the_target() -> None:
    rendered, targets, valid = pixels(0.0)
    rendered.requires_grad_()
    _, one_minus_cosine = language_loss(rendered, targets, valid)
    (gradient,) = torch.autograd.grad(one_minus_cosine, rendered)
    torch.testing.assert_close(gradient[valid], -targets[valid] / COSINE_FLOOR / valid.sum())


@pytest.mark.parametrize("length", [0.3 * COSINE_FLOOR, 1.0])
def test_the_derivative_is_that_of_the_loss(length: float) -> None:
    rendered, targets, valid = pixels(length)
    rendered = rendered.double().requires_grad_()

    def loss(values: Tensor) -> Tensor:
        l1, one_minus_cosine = language_loss(values, targets.double(), valid)
        return l1 + one_minus_cosine

    assert torch.autograd.gradcheck(loss, rendered)


def test_without_targets_the_loss_is_zero_and_differentiable() -> None:
    rendered, targets, valid = pixels(1.0)
    rendered.requires_grad_()
    losses = language_loss(rendered, targets, torch.zeros_like(valid))
    assert [value.item() for value in losses] == [0, 0]
    assert not torch.autograd.grad(sum(losses), rendered)[0].any()


def fit(views: list[RegionView], latents: Tensor, steps: int) -> float:
    """Mean cosine between the true latents and those after some steps of Adam."""
    latents = latents.clone().requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=0.01, eps=1e-15)
    for step in range(steps):
        view = views[step % len(views)]
        rendered = view.operator.composite(latents.flatten(1)).unflatten(-1, latents.shape[1:])
        optimizer.zero_grad()
        sum(language_loss(rendered, *region_targets(view.regions, view.latents))).backward()
        optimizer.step()
    truth = views[0].latents.repeat_interleave(2, dim=0)
    return F.cosine_similarity(latents[:, 0], truth, dim=-1).mean().item()


def test_adam_from_zeros_and_from_a_small_start_soon_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = F.normalize(torch.randn(6, 16, generator=generator), dim=-1)
    views = labeled_scene(4, truth)
    zeros = torch.zeros(12, 1, 16)
    found = [fit(views, zeros + spread * torch.randn(zeros.shape, generator=generator), 60) for spread in (0, 0.01)]
    assert min(found) > 0.95
    assert abs(found[0] - found[1]) < 0.02
