"""The CPU kernels give the images and gradients of the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from genlangsplat_ns.rasterization import rasterization
from tests.rasterization import reference
from tests.rasterization.gaussian_scenes import SmallScene, relative_error, small_scene

IMAGE_ERROR = 1e-6  # mean absolute
GRADIENT_ERROR = 1e-3  # relative L2


def differentiate(image: Tensor, alphas: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of a random linear function of both outputs."""
    generator = torch.Generator().manual_seed(7)
    to_image = torch.randn(image.shape, generator=generator).to(image)
    to_alphas = torch.randn(alphas.shape, generator=generator).to(alphas)
    loss = (image * to_image).sum() + (alphas * to_alphas).sum()
    return list(torch.autograd.grad(loss, inputs, materialize_grads=True))


def compare(scene: SmallScene, background: Tensor | None = None, **options: object) -> None:
    results = []
    for render, dtype in ((rasterization, torch.float32), (reference.rasterization, torch.float64)):
        leaves = scene.leaves(dtype)
        inputs = [*leaves.gaussians.tensors(), leaves.colors, leaves.viewmats]
        behind = None if background is None else background.to(dtype).requires_grad_()
        image, alphas, _ = render(**leaves.arguments(), backgrounds=behind, **options)
        if behind is not None:
            inputs.append(behind)
        results.append((image, alphas, differentiate(image, alphas, inputs)))
    (image, alphas, gradients), (expected, expected_alphas, expected_gradients) = results
    assert image.shape == expected.shape
    assert (image - expected).abs().mean() <= IMAGE_ERROR
    assert (alphas - expected_alphas).abs().mean() <= IMAGE_ERROR
    names = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds")
    for name, gradient, wanted in zip(names, gradients, expected_gradients, strict=False):
        assert relative_error(gradient, wanted) <= GRADIENT_ERROR, name


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16, 48, 51, 65, 513])
def test_any_number_of_channels_on_every_build(channels: int) -> None:
    compare(small_scene(channels=channels))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_of_every_degree(degree: int) -> None:
    compare(small_scene(harmonics=True), sh_degree=degree)


@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
@pytest.mark.parametrize("render_mode", ["RGB", "D", "ED", "RGB+D", "RGB+ED"])
def test_every_mode(render_mode: str, rasterize_mode: str) -> None:
    compare(small_scene(harmonics=True), sh_degree=3, render_mode=render_mode, rasterize_mode=rasterize_mode)


@pytest.mark.parametrize("channels", [3, 20])
def test_backgrounds_are_visible_and_have_a_gradient(channels: int) -> None:
    compare(small_scene(channels=channels), torch.rand(1, channels))
    compare(small_scene(channels=channels), torch.rand(1, channels), render_mode="RGB+ED")


def test_opaque_gaussians_saturate_pixels() -> None:
    scene = small_scene(count=400)
    compare(SmallScene(**{**scene.arguments(), "opacities": torch.ones(400) * 0.9995, "scales": scene.scales * 3}))


def test_gaussians_beyond_the_planes_are_skipped() -> None:
    compare(small_scene(), near_plane=2.5, far_plane=3.4, eps2d=0.1)


def test_one_gaussian_has_the_opacity_of_the_formula() -> None:
    """The opacity at a distance of d pixels is exp(-d^2 / (2 variance)) of that at the center."""
    focal, depth, scale, opacity = 40.0, 2.0, 0.1, 0.8
    variance = (focal * scale / depth) ** 2 + 0.3
    image, alphas, info = rasterization(
        means=torch.tensor([[0.0, 0.0, depth]]),
        quats=torch.tensor([[2.0, 0.0, 0.0, 0.0]]),
        scales=torch.full((1, 3), scale),
        opacities=torch.tensor([opacity]),
        colors=torch.tensor([[0.25, 0.5, 1.0]]),
        viewmats=torch.eye(4)[None],
        Ks=torch.tensor([[[focal, 0.0, 10.5], [0.0, focal, 8.5], [0.0, 0.0, 1.0]]]),
        width=21,
        height=17,
    )
    assert torch.allclose(image[0, 8, 10], opacity * torch.tensor([0.25, 0.5, 1.0]), atol=1e-6)
    for distance in (1, 2, 3):
        expected = opacity * np.exp(-0.5 * distance**2 / variance)
        assert alphas[0, 8, 10 + distance, 0] == pytest.approx(expected, abs=1e-6)
        assert alphas[0, 8 - distance, 10, 0] == pytest.approx(expected, abs=1e-6)
    assert info["radii"].tolist() == [[int(np.ceil(3 * np.sqrt(variance + 0.1)))]]


def test_the_reference_projects_as_gsplat_does() -> None:
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci

    scene = small_scene(count=500)
    covariances, _ = _quat_scale_to_covar_preci(scene.quats, scene.scales, True, False)
    radii, means2d, depths, conics, compensations = _fully_fused_projection(
        scene.means, covariances, scene.viewmats, scene.Ks, scene.width, scene.height, calc_compensations=True
    )
    splats = reference.project(scene.gaussians, scene.view)
    seen = radii[0] > 0
    assert 50 < int(seen.sum()) < 500
    assert torch.equal(splats.radii, radii[0])
    assert torch.allclose(splats.means2d[seen], means2d[0][seen], atol=1e-3)
    assert torch.allclose(splats.depths[seen], depths[0][seen], atol=1e-5)
    assert relative_error(splats.conics[seen], conics[0][seen]) < 1e-4
    assert torch.allclose(splats.compensations[seen], compensations[0][seen], atol=1e-4)


def test_the_reference_shades_as_gsplat_does() -> None:
    from gsplat.cuda._torch_impl import _spherical_harmonics

    scene = small_scene(harmonics=True)
    position = torch.linalg.inv(scene.viewmats[0])[:3, 3]
    for degree in range(4):
        expected = (_spherical_harmonics(degree, scene.means - position, scene.colors) + 0.5).clamp(min=0)
        shaded = reference.shade(scene.gaussians, scene.view, scene.colors, degree)
        assert torch.allclose(shaded, expected, atol=1e-5)


def test_a_real_scene(shared_data) -> None:
    """Points of the Mip-NeRF 360 garden as Gaussians, at a quarter of its resolution."""
    garden = np.load(shared_data / "gsplat_garden" / "test_garden.npz")
    means = torch.from_numpy(garden["means3d"])
    means = means[(means.abs() <= 2).all(dim=1)][::4]
    generator = torch.Generator().manual_seed(0)
    scene = SmallScene(
        means=means,
        quats=torch.randn(len(means), 4, generator=generator),
        scales=torch.exp(0.5 * torch.randn(len(means), 3, generator=generator) - 4.3),
        opacities=torch.rand(len(means), generator=generator),
        colors=torch.rand(len(means), 3, generator=generator),
        viewmats=torch.from_numpy(garden["viewmats"][:1]),
        Ks=torch.from_numpy(garden["Ks"][:1]) * torch.tensor([[0.25], [0.25], [1.0]]),
        width=162,
        height=105,
    )
    results = []
    for render in (rasterization, reference.rasterization):
        leaves = scene.leaves(torch.float32)
        image, alphas, _ = render(**leaves.arguments())
        results.append((image, differentiate(image, alphas, [*leaves.gaussians.tensors(), leaves.colors])))
    (image, gradients), (expected, expected_gradients) = results
    assert expected.mean() > 0.1
    assert (image - expected).abs().mean() <= IMAGE_ERROR
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative_error(gradient, wanted) <= GRADIENT_ERROR
