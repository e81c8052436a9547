"""Cases of the sanitized driver that take a seed or a size: hostile scenes, failing allocations, and a dense crowd."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.attention import KeyTable, attend, weighted_sums
from genlangsplat_ns.rasterization import compositing_weights, library, rasterization
from genlangsplat_ns.rasterization.ssim import structural_similarity
from tests.rasterization.gaussian_scenes import SmallScene, small_scene
from tests.rasterization.hostile_scenes import HostileScene, check_laws, hostile_scene, results


def hostile_scenes(first_seed: int, count: int) -> None:
    """Checks the laws of `count` random scenes; a failure names the seed."""
    for seed in range(first_seed, first_seed + count):
        try:
            check_laws(hostile_scene(seed))
        except (AssertionError, GenLangSplatError) as error:
            raise AssertionError(f"The scene of seed {seed} breaks a law: {error}") from error


def every_allocation_fails_once() -> None:
    """Lets each allocation of the kernels fail: our error or the same results, and the next call is unharmed."""
    kernels = ctypes.CDLL(library.load_kernels()._library._name)
    kernels.gls_failure_is_ahead.restype = ctypes.c_bool
    for name, work in operations():
        expected, failures = work(), 0
        for number in range(1, 10_000):
            kernels.gls_fail_allocation(ctypes.c_int64(number))
            try:
                found = work()
            except GenLangSplatError as error:
                assert "too little memory" in str(error) or "no memory" in str(error)
                failures += 1
            else:
                _assert_equal(found, expected)
            if kernels.gls_failure_is_ahead():
                break
        kernels.gls_fail_allocation(ctypes.c_int64(0))
        assert failures, f"no allocation of {name} failed"
        _assert_equal(work(), expected)


def operations() -> Iterator[tuple[str, Callable[[], list[Tensor]]]]:
    """The functions of the kernels that allocate, on small inputs."""
    for channels in (3, 20):
        scene = small_scene(count=300, channels=channels)
        hostile = HostileScene(scene, torch.zeros(300, dtype=torch.bool), {"rasterize_mode": "antialiased"})
        yield f"rendering of {channels} channels", lambda hostile=hostile: _rendered(hostile)
        for half in (False, True):
            yield f"weights of {channels} channels", lambda scene=scene, half=half: _weighed(scene, half)
    pictures = torch.rand(2, 1, 3, 20, 30)
    yield "similarity", lambda: [structural_similarity(pictures[0].clone().requires_grad_(), pictures[1]).detach()]
    keys = torch.nn.functional.normalize(torch.randn(40, 5), dim=-1)
    table, latents = KeyTable.of(keys, torch.zeros(40), torch.randn(40, 8), 60.0, 0.0), torch.randn(900, 5)
    yield "attention", lambda: _attended(table, latents)


def _rendered(hostile: HostileScene) -> list[Tensor]:
    found = results(hostile)
    return [found.image, found.alphas, *found.gradients, found.to_view]


def _weighed(scene: SmallScene, half: bool) -> list[Tensor]:
    weights = compositing_weights(scene.gaussians, scene.view, half_precision=half)
    image = weights.composite(scene.colors)
    return [image, weights.backproject(image)]


def _attended(table: KeyTable, latents: Tensor) -> list[Tensor]:
    found = attend(table, latents)
    return [found.indices, found.weights, weighted_sums(found.indices, found.weights, table.values)]


def _assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(value, wanted) for value, wanted in zip(found, expected, strict=True))


def a_crowd_in_one_tile(count: int) -> None:
    """Renders tiny Gaussians at random places of a single tile, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    scene = replace(small_scene(count=0, width=16, height=16), viewmats=torch.eye(4)[None])
    means = torch.rand(count, 3, generator=generator)
    means[:, :2] -= 0.5
    means[:, 2] += 1.5
    crowd = replace(
        scene,
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        scales=torch.full((count, 3), 1e-30),
        opacities=torch.full((count,), 0.005),
        colors=torch.ones(count, 1),
        Ks=torch.tensor([[[16.0, 0.0, 8.0], [0.0, 16.0, 8.0], [0.0, 0.0, 1.0]]]),
    )
    arguments = crowd.arguments()
    for name in ("opacities", "colors"):
        arguments[name].requires_grad_()
    image, alphas, _ = rasterization(**arguments)
    alphas = alphas.detach()
    assert float(alphas.min()) >= 0 and float(alphas.max()) <= 1
    assert torch.allclose(image, alphas, atol=1e-4)
    to_opacities, to_colors = torch.autograd.grad(image.sum(), [arguments["opacities"], arguments["colors"]])
    assert bool(to_opacities.isfinite().all()) and bool(to_colors.isfinite().all())
    # The weights of a pixel sum to its alpha.
    assert abs(float(to_colors.double().sum()) / float(alphas.double().sum()) - 1) < 1e-3
