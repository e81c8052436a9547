"""The numba implementation has the images and gradients of the reference."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from genlangsplat_ns.rasterization import reference
from tests.rasterization.gaussian_scenes import SmallScene, relative_error, small_scene

IMAGE_ERROR = 1e-6  # mean absolute
GRADIENT_ERROR = 1e-3  # relative L2


@pytest.fixture
def splatter(benchmarks_importable: None) -> ModuleType:
    pytest.importorskip("numba", reason="needs numba: pip install -e '.[benchmarks]'")
    import numba_splatter

    return numba_splatter


def opaque(scene: SmallScene) -> SmallScene:
    """The scene with Gaussians that are large and opaque enough to reach the opacity cap and saturate pixels."""
    return replace(scene, opacities=torch.full_like(scene.opacities, 0.9995), scales=scene.scales * 3)


def test_projection_equals_the_reference(splatter: ModuleType) -> None:
    scene = small_scene(count=500)
    inputs = (tensor.numpy() for tensor in (*scene.gaussians.tensors()[:3], scene.view.viewmat, scene.view.K))
    means2d, conics, depths, radii = map(torch.from_numpy, splatter.project(*inputs, scene.width, scene.height))
    expected = reference.project(scene.gaussians, scene.view)
    seen = expected.radii > 0
    assert torch.equal(radii, expected.radii)
    assert 50 < int(seen.sum()) < 500
    assert torch.allclose(depths, expected.depths, atol=1e-6)
    assert torch.allclose(means2d[seen], expected.means2d[seen], atol=1e-3)
    assert relative_error(conics[seen], expected.conics[seen]) < 1e-4


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 51])
@pytest.mark.parametrize("scene", [small_scene(), opaque(small_scene(count=400))], ids=["faint", "opaque"])
def test_images_and_gradients_equal_the_reference(splatter: ModuleType, scene: SmallScene, channels: int) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(len(scene.means), channels, generator=generator)
    gradient = torch.randn(scene.height, scene.width, channels, generator=generator)
    splats = reference.project(scene.gaussians, scene.view)
    leaves = [tensor.double().requires_grad_() for tensor in (splats.means2d, splats.conics, scene.opacities, features)]
    double = replace(splats, means2d=leaves[0], conics=leaves[1])
    expected, _ = reference.composite(double, leaves[2], leaves[3], scene.width, scene.height)
    wanted = torch.autograd.grad(expected, leaves, gradient.double())

    shown = [tensor.numpy() for tensor in (splats.means2d, splats.conics, scene.opacities)]
    size = (scene.width, scene.height)
    lists = splatter.bin(*shown, splats.depths.numpy(), splats.radii.numpy(), *size)
    inputs = (lists[0], features.numpy(), *lists[1:], *size)
    image = splatter.composite(*inputs)
    assert np.abs(image - expected.detach().numpy()).mean() <= IMAGE_ERROR
    for found, value in zip(splatter.composite_backward(*inputs, image, gradient.numpy()), wanted, strict=True):
        assert relative_error(torch.from_numpy(found), value) <= GRADIENT_ERROR
