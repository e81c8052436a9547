"""Prints as JSON what an installed gsplat looks like to this project: its signatures, and how our calls of it end.

`gsplat_packages.probe` runs it in a process of its own, with the package first on PYTHONPATH.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

import gsplat
import torch
from gsplat.strategy import DefaultStrategy, ops

from genlangsplat_ns.rasterization import cuda, rasterization, shade
from genlangsplat_ns.rasterization.densification import BudgetedStrategy
from tests.rasterization import gsplat_fake
from tests.rasterization.gaussian_scenes import SmallScene, relative_error, small_scene

MAX_GAUSSIANS = 500
"""The budget of the densification."""

FUNCTIONS = {
    "rasterization": gsplat.rasterization,
    "spherical_harmonics": gsplat.spherical_harmonics,
    "DefaultStrategy": DefaultStrategy,
    "DefaultStrategy.initialize_state": DefaultStrategy.initialize_state,
    "DefaultStrategy.step_pre_backward": DefaultStrategy.step_pre_backward,
    "DefaultStrategy.step_post_backward": DefaultStrategy.step_post_backward,
    "DefaultStrategy._update_state": DefaultStrategy._update_state,
    "DefaultStrategy._grow_gs": DefaultStrategy._grow_gs,
    "reset_opa": ops.reset_opa,
}
"""What the package calls or overrides."""

CALLS: dict[str, dict[str, Any]] = {
    "harmonics": {"sh_degree": 3, "render_mode": "RGB+ED", "rasterize_mode": "antialiased"},
    "colors": {"absgrad": True},
    "latents": {"channels": 51, "render_mode": "RGB+ED"},
    "background": {"channels": 7, "backgrounds": torch.linspace(0, 1, 7)[None]},
    "depth": {"render_mode": "D"},
}
"""Options of the calls that are compared with the CPU."""


def signature(function: Any) -> list[str]:
    """The parameters in order, with their defaults; a name alone is a parameter without one."""
    parameters = inspect.signature(function).parameters.values()
    return [str(parameter.replace(annotation=parameter.empty)) for parameter in parameters]


def compare(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results of one call, and their relative errors."""
    options = dict(options)
    scene = small_scene(count=400, channels=options.pop("channels", 3), harmonics="sh_degree" in options)
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(rasterization).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    results = []
    for renders in (lambda arguments: cuda.rasterize({**defaults, **arguments}), lambda given: rasterization(**given)):
        leaves = scene.leaves(torch.float32)
        image, alphas, info = renders({**leaves.arguments(), **options})
        info["means2d"].retain_grad()
        weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
        ((image * weight).sum() + alphas.sum()).backward()
        gradients = {
            name: value.grad for name, value in vars(leaves).items() if getattr(value, "grad", None) is not None
        }
        if options.get("absgrad"):
            gradients["absgrad"] = info["means2d"].absgrad
        results.append(({"image": image.detach(), "alphas": alphas.detach(), **gradients}, info))
    (found, info), (expected, _) = results
    assert found.keys() == expected.keys()
    return info, {name: relative_error(value, expected[name]) for name, value in found.items()}


def densify(scene: SmallScene) -> dict[str, Any]:
    """Trains with densification: the numbers of Gaussians, and the steps at which opacities were reset."""
    values = {
        "means": scene.means,
        "quats": scene.quats,
        "scales": scene.scales.log(),
        "opacities": torch.logit(scene.opacities, eps=1e-4),
        "colors": scene.colors,
    }
    params = torch.nn.ParameterDict({name: torch.nn.Parameter(value.clone()) for name, value in values.items()})
    optimizers = {name: torch.optim.Adam([value], lr=1e-3) for name, value in params.items()}
    strategy = BudgetedStrategy(
        refine_start_iter=1,
        refine_every=4,
        reset_every=8,
        grow_grad2d=1e-4,
        max_gaussians=MAX_GAUSSIANS,
        verbose=False,
    )
    state = strategy.initialize_state(scene_scale=1.0)
    counts, resets = [], []
    torch.manual_seed(0)
    for step in range(18):
        image, _, info = rasterization(
            params["means"],
            params["quats"],
            params["scales"].exp(),
            params["opacities"].sigmoid(),
            params["colors"],
            scene.viewmats,
            scene.Ks,
            scene.width,
            scene.height,
        )
        strategy.step_pre_backward(params, optimizers, state, step, info)
        image.square().mean().backward()
        with torch.no_grad():
            params["opacities"].fill_(2.0)
        strategy.step_post_backward(params, optimizers, state, step, info)
        if float(params["opacities"].detach().max()) < 0:
            resets.append(step)
        counts.append(len(params["means"]))
        for optimizer in optimizers.values():
            optimizer.zero_grad()
    return {"counts": counts, "resets": resets}


def main() -> None:
    """Prints the report."""
    signatures = {name: signature(function) for name, function in FUNCTIONS.items()}
    gsplat_fake.install()
    errors = {}
    for name, options in CALLS.items():
        info, errors[name] = compare(options)
    scene = small_scene(count=400, harmonics=True)
    colors = cuda.shade(scene.gaussians, scene.view, scene.colors, 3)
    expected = shade(scene.gaussians, scene.view, scene.colors, sh_degree=3)
    # Colors of Gaussians outside the image are undefined.
    seen = rasterization(**scene.arguments(), sh_degree=3)[2]["radii"][0] > 0
    errors["shade"] = {"colors": relative_error(colors[seen], expected[seen])}
    radii = ["Gaussians" if size == len(scene.means) else size for size in info["radii"].shape]
    contract = {"version": gsplat.__version__, "signatures": signatures, "info": sorted(info), "radii": radii}
    report = {"contract": contract, "errors": errors, "densification": densify(small_scene(count=300))}
    sys.stdout.write(json.dumps(report) + "\n")
