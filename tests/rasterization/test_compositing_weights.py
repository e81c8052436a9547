"""The sparse matrix of weights equals the dense one of the reference; both backprojections agree."""

from __future__ import annotations

import pytest
import torch

from genlangsplat_ns.rasterization import RenderedWeights, compositing_weights, rasterization
from tests.rasterization import reference
from tests.rasterization.gaussian_scenes import dense, relative_error, small_scene


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
def test_the_matrix_equals_that_of_the_reference(rasterize_mode: str) -> None:
    scene = small_scene()
    weights = compositing_weights(scene.gaussians, scene.view, rasterize_mode=rasterize_mode)
    splats = reference.project(scene.gaussians, scene.view)
    opacities = scene.opacities * (splats.compensations if rasterize_mode == "antialiased" else 1)
    alone = torch.eye(len(opacities))
    expected = reference.composite(splats, opacities, alone, scene.width, scene.height)[0].flatten(0, 1)
    assert torch.allclose(dense(weights), expected, atol=1e-5)
    assert weights.num_entries == int((dense(weights) > 0).sum()) == int((expected > 0).sum())
    assert weights.nbytes > 4 * weights.num_entries
    assert weights.num_entries / 16 <= weights.num_visits <= weights.num_entries


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("channels", [1, 3, 16, 50])
def test_both_products_equal_the_dense_ones(channels: int) -> None:
    scene = small_scene(channels=channels)
    weights = compositing_weights(scene.gaussians, scene.view)
    matrix = dense(weights).double()
    targets = torch.randn(scene.height, scene.width, channels, generator=torch.Generator().manual_seed(1))
    image = (matrix @ scene.colors.double()).view(scene.height, scene.width, channels)
    assert relative_error(weights.composite(scene.colors), image) < 1e-6
    assert relative_error(weights.backproject(targets), matrix.T @ targets.view(-1, channels).double()) < 1e-6


@pytest.mark.parametrize("channels", [3, 48])
def test_backprojection_by_weights_equals_that_by_gradient(channels: int) -> None:
    scene = small_scene(channels=channels)
    targets = torch.randn(scene.height, scene.width, channels, generator=torch.Generator().manual_seed(2))
    for mode in ("classic", "antialiased"):
        weights = compositing_weights(scene.gaussians, scene.view, rasterize_mode=mode)
        by_weights = weights.backproject(targets)
        by_gradient = RenderedWeights(scene.gaussians, scene.view, rasterize_mode=mode).backproject(targets)
        assert not by_weights.requires_grad
        assert relative_error(by_weights, by_gradient) < 1e-6


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("channels", [3, 50])
def test_half_precision_rounds_the_weights(channels: int) -> None:
    scene = small_scene(channels=channels)
    weights, halves = (compositing_weights(scene.gaussians, scene.view, half_precision=half) for half in (False, True))
    rounded = dense(halves)
    assert torch.equal(rounded, dense(weights).half().float())
    targets = torch.randn(scene.height, scene.width, channels, generator=torch.Generator().manual_seed(1))
    assert relative_error(halves.composite(scene.colors).flatten(0, 1), rounded @ scene.colors) < 1e-6
    assert relative_error(halves.backproject(targets), rounded.T @ targets.flatten(0, 1)) < 1e-6


def test_half_precision_takes_about_half_the_memory() -> None:
    scene = small_scene(count=20_000, width=640, height=480)
    weights, halves = (compositing_weights(scene.gaussians, scene.view, half_precision=half) for half in (False, True))
    assert halves.nbytes < 0.7 * weights.nbytes


@pytest.mark.parametrize("channels", [3, 48])
def test_composite_is_differentiable_in_the_features(channels: int) -> None:
    scene = small_scene(channels=channels)
    weights = compositing_weights(scene.gaussians, scene.view)
    results = []
    for render in (
        weights.composite,
        lambda features: rasterization(**{**scene.arguments(), "colors": features})[0][0],
    ):
        features = scene.colors.clone().requires_grad_()
        render(features).square().sum().backward()
        results.append(features.grad)
    assert relative_error(*results) < 1e-5


def test_composite_is_the_rasterization_of_features() -> None:
    scene = small_scene(channels=48)
    image, _, _ = rasterization(**scene.arguments())
    weights = compositing_weights(scene.gaussians, scene.view)
    assert relative_error(weights.composite(scene.colors), image[0]) < 1e-6
