"""Random scenes with poisoned and extreme Gaussians, cameras and sizes, and the laws that their renders obey.

A poisoned Gaussian has a parameter, or a projection, that is not finite. gsplat 1.4 and the reference in plain torch
skip one with a bad mean, rotation or scale; a bad opacity or color reaches the pixels that the Gaussian covers, and all
gradients there. The kernels skip every poisoned Gaussian whole, so its scene renders as without it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genlangsplat_ns.rasterization import compositing_weights, rasterization
from tests.rasterization.gaussian_scenes import SmallScene, small_scene

PARAMETERS = ("means", "quats", "scales", "opacities", "colors")
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
COUNTS = (0, 1, 2, 15, 16, 17, 40, 90)
SIZES = (0, 1, 2, 15, 16, 17, 33, 50)
CHANNELS = (0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 40)

POISONS: dict[str, tuple[float, ...]] = {
    "means": NOT_FINITE,
    "quats": (*NOT_FINITE, 1e30, 3e38),
    "scales": (*NOT_FINITE, 1e30, 3e38),
    "opacities": NOT_FINITE,
    "colors": NOT_FINITE,
}
"""Values of one number of a Gaussian that make it invisible."""

EXTREMES: dict[str, tuple[float, ...]] = {
    "means": (0.0, -0.0, 1e-45, 1e-38, 1e5, -1e10, 1e30, 3e38),
    "quats": (0.0, 1e-45, 1e-30, 1e-10, 1e10),
    "scales": (0.0, -1.0, 1e-45, 1e-30, 1e3, 1e6),
    "opacities": (0.0, -0.0, 1e-45, 1 / 255, 1.0, 1.5, -1.0, 1e30, 3e38),
    "colors": (0.0, 1e-45, -1.0, 1e4),
}
"""Finite values of one number of a Gaussian; results and gradients stay finite."""


@dataclass(frozen=True)
class HostileScene:
    """A scene, which of its Gaussians are poisoned, and options of the rasterizer."""

    scene: SmallScene
    poisoned: Tensor
    options: dict[str, Any]

    def chosen(self, which: Tensor) -> HostileScene:
        """The Gaussians with these indices."""
        kept = {name: getattr(self.scene, name)[which] for name in PARAMETERS}
        return HostileScene(replace(self.scene, **kept), self.poisoned[which], self.options)


def hostile_scene(seed: int) -> HostileScene:
    """A scene of this seed: a third of its Gaussians is poisoned, a third has an extreme number."""
    chance = random.Random(seed)
    options: dict[str, Any] = {
        "render_mode": chance.choice(("RGB", "RGB", "RGB+ED", "D")),
        "rasterize_mode": chance.choice(("classic", "antialiased")),
    }
    harmonics, channels = chance.random() < 0.3, chance.choice(CHANNELS)
    if harmonics:
        options["sh_degree"] = chance.randrange(4)
    elif options["render_mode"] != "D":
        options["backgrounds"] = torch.full((1, channels), chance.random())
    scene = small_scene(
        chance.choice(COUNTS), chance.choice(SIZES), chance.choice(SIZES), channels, harmonics, chance.randrange(10**6)
    )
    scene = _with_camera(scene, chance)
    poisoned = torch.zeros(len(scene.means), dtype=torch.bool)
    for index in range(len(scene.means)):
        kind = chance.choice((POISONS, EXTREMES, None))
        if kind is None:
            continue
        name = chance.choice(PARAMETERS)
        numbers = getattr(scene, name)[index].view(-1)
        if not len(numbers) or (kind is POISONS and name == "colors" and options["render_mode"] == "D"):
            continue
        # All three harmonics of the first basis are always used.
        numbers[chance.randrange(3 if harmonics and name == "colors" else len(numbers))] = chance.choice(kind[name])
        poisoned[index] = kind is POISONS
    return HostileScene(scene, poisoned, options)


def _with_camera(scene: SmallScene, chance: random.Random) -> SmallScene:
    """The scene in its camera, or one that is far, behind, inside, or has an extreme focal length or center."""
    kind = chance.choice(("as it is", "as it is", "far", "behind", "inside", "focal", "center"))
    viewmats, camera = scene.viewmats.clone(), scene.Ks.clone()
    # The helper's focal length is proportional to a width that may be zero.
    camera[0, 0, 0], camera[0, 1, 1] = 0.9 * max(scene.width, 4), max(scene.width, 4)
    if kind in ("far", "behind", "inside"):
        viewmats[0, 2, 3] = {"far": 1e6, "behind": -1e3, "inside": 0.0}[kind]
    if kind == "focal":
        camera[0, 0, 0] *= chance.choice((1e-3, 1e3))
        camera[0, 1, 1] *= chance.choice((1e-3, 1e3))
    if kind == "center":
        camera[0, chance.randrange(2), 2] = chance.choice((-1e6, 1e6))
    return replace(scene, viewmats=viewmats, Ks=camera)


@dataclass(frozen=True)
class Results:
    """What a forward and a backward pass give; `gradients` are those of the Gaussians."""

    image: Tensor
    alphas: Tensor
    radii: Tensor
    depths: Tensor
    gradients: list[Tensor]
    to_view: Tensor


def results(hostile: HostileScene) -> Results:
    """Renders forward and backward."""
    leaves = hostile.scene.leaves(torch.float32)
    image, alphas, info = rasterization(**leaves.arguments(), absgrad=True, **hostile.options)
    inputs = [*leaves.gaussians.tensors(), leaves.colors, leaves.viewmats]
    slopes = [torch.linspace(-1, 1, result.numel()).view_as(result) for result in (image, alphas)]
    *gradients, to_view = torch.autograd.grad((image, alphas), inputs, slopes, materialize_grads=True)
    depths = info["depths"][0].detach()
    return Results(image.detach(), alphas.detach(), info["radii"][0], depths, gradients, to_view)


def check_laws(hostile: HostileScene) -> None:
    """Asserts the laws of one scene.

    All results are finite and alphas lie in 0..1. Poisoned Gaussians are invisible and without a gradient. Without them
    and in another order, every other result is the same to the bit. The weights give the same image.
    """
    found, poisoned = results(hostile), hostile.poisoned
    for result in (found.image, found.alphas, found.to_view, *found.gradients):
        assert bool(result.isfinite().all()), "a result is not finite"
    if found.alphas.numel():
        assert float(found.alphas.min()) >= 0 and float(found.alphas.max()) <= 1
    if "colors" not in _poisoned_names(hostile):
        assert not found.radii[poisoned].any(), "a poisoned Gaussian is visible"
    for gradient in found.gradients:
        assert not gradient[poisoned].any(), "a poisoned Gaussian has a gradient"

    kept = (~poisoned).nonzero()[:, 0]
    _check_same(found, results(hostile.chosen(kept)), kept)
    depths = found.depths[found.radii > 0]
    if len(depths.unique()) == len(depths):
        # Among equal depths, the order of the Gaussians decides.
        _check_same(found, results(hostile.chosen(kept.flip(0))), kept.flip(0))
    _check_weights(hostile, found.alphas[0])


def _check_same(found: Results, again: Results, which: Tensor) -> None:
    """Asserts the same results, to the bit, for the Gaussians with these indices."""
    assert torch.equal(again.image, found.image) and torch.equal(again.alphas, found.alphas)
    assert torch.equal(again.radii, found.radii[which])
    for gradient, wanted in zip(again.gradients, found.gradients, strict=True):
        assert torch.equal(gradient, wanted[which])


def _poisoned_names(hostile: HostileScene) -> set[str]:
    """The parameters in which a Gaussian is not finite; a bad plain color leaves the projection as it is."""
    return {name for name in PARAMETERS if not bool(getattr(hostile.scene, name).isfinite().all())}


def _check_weights(hostile: HostileScene, alphas: Tensor) -> None:
    """Asserts that the sums of the weights are the alphas, and that sums over pixels are finite."""
    mode = hostile.options["rasterize_mode"]
    finite_colors = hostile.scene.colors.flatten(1).isfinite().all(dim=1)
    scene = hostile.chosen(finite_colors.nonzero()[:, 0]).scene
    weights = compositing_weights(scene.gaussians, scene.view, rasterize_mode=mode)
    torch.testing.assert_close(weights.composite(torch.ones(len(scene.means), 1)), alphas, atol=1e-5, rtol=0)
    sums = weights.backproject(torch.ones(scene.height, scene.width, 3))
    torch.testing.assert_close(sums.sum(), 3 * alphas.sum(), atol=1e-3, rtol=1e-3)
