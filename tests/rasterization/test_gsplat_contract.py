"""The installed gsplat: how it is called, and on a GPU its images and gradients.

`test_gsplat_versions.py` compares all versions.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import gsplat
import nerfstudio
import pytest
import torch

from genlangsplat_ns.rasterization import RenderedWeights, compositing_weights, rasterization, shade
from genlangsplat_ns.rasterization.densification import BudgetedStrategy
from tests.rasterization.gaussian_scenes import relative_error, small_scene

SHARED = inspect.signature(rasterization).parameters


class CudaLike(torch.Tensor):
    """A tensor that claims to be on the GPU, to test the CUDA branch without one."""

    is_cuda = True


def test_the_signature_accepts_the_call_of_splatfacto() -> None:
    source = Path(nerfstudio.__file__).parent / "models" / "splatfacto.py"
    calls = [
        node
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "rasterization"
    ]
    assert len(calls) == 1 and not calls[0].args
    assert {keyword.arg for keyword in calls[0].keywords} <= set(SHARED)


def test_cuda_tensors_are_passed_to_gsplat_with_the_same_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = inspect.signature(gsplat.rasterization)
    recorded = {}

    def record(**arguments: object) -> tuple[torch.Tensor, torch.Tensor, dict]:
        signature.bind(**arguments)
        recorded.update(arguments)
        return torch.zeros(1), torch.ones(1), {"from": "gsplat"}

    monkeypatch.setattr(gsplat, "rasterization", record)
    scene = small_scene()
    arguments = {**scene.arguments(), "means": scene.means.as_subclass(CudaLike)}
    _, _, info = rasterization(**arguments, absgrad=True, render_mode="RGB+ED")
    assert info == {"from": "gsplat"}
    assert set(recorded) == set(SHARED)
    assert recorded["means"] is arguments["means"] and recorded["Ks"] is scene.Ks
    assert recorded["absgrad"] is True and recorded["packed"] is False and recorded["render_mode"] == "RGB+ED"


def test_gsplats_densification_runs_on_the_results_of_the_cpu() -> None:
    scene = small_scene(count=300).leaves(torch.float32)
    values = {
        "means": scene.means,
        "quats": scene.quats,
        "scales": scene.scales.detach().log(),
        "opacities": torch.logit(scene.opacities.detach(), eps=1e-4),
        "colors": scene.colors,
    }
    params = torch.nn.ParameterDict({name: torch.nn.Parameter(value.detach()) for name, value in values.items()})
    optimizers = {name: torch.optim.Adam([value], lr=1e-3) for name, value in params.items()}
    strategy = BudgetedStrategy(refine_start_iter=1, refine_every=4, grow_grad2d=1e-4, absgrad=True, verbose=False)
    state = strategy.initialize_state(scene_scale=1.0)
    target = torch.rand(1, scene.height, scene.width, 3, generator=torch.Generator().manual_seed(3))
    losses = []
    for step in range(12):
        image, _, info = rasterization(
            **{
                **scene.arguments(),
                "means": params["means"],
                "quats": params["quats"],
                "scales": params["scales"].exp(),
                "opacities": params["opacities"].sigmoid(),
                "colors": params["colors"],
                "viewmats": scene.viewmats.detach(),
            },
            absgrad=True,
        )
        strategy.step_pre_backward(params, optimizers, state, step, info)
        loss = (image - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        strategy.step_post_backward(params, optimizers, state, step, info)
    assert len(params["means"]) > 300
    # gsplat resets the opacities in the first step, and refines in the fourth.
    assert losses[3] < losses[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
@pytest.mark.parametrize(
    "options",
    [{"sh_degree": 3, "render_mode": "RGB+ED"}, {"absgrad": True}, {"render_mode": "D"}],
    ids=lambda options: "-".join(options),
)
def test_the_cpu_renders_like_gsplat(options: dict[str, object], rasterize_mode: str) -> None:
    scene = small_scene(count=2000, width=200, height=150, harmonics="sh_degree" in options)
    results = []
    for device in ("cpu", "cuda"):
        leaves = scene.leaves(torch.float32)
        arguments = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in leaves.arguments().items()
        }
        image, alphas, info = rasterization(**arguments, rasterize_mode=rasterize_mode, **options)
        weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(device)
        info["means2d"].retain_grad()
        ((image * weight).sum() + alphas.sum()).backward()
        leaf_gradients = [leaf.grad for leaf in (*leaves.gaussians.tensors(), leaves.viewmats) if leaf.grad is not None]
        gradients = [*leaf_gradients, info["means2d"].grad.cpu()]
        if "absgrad" in options:
            gradients.append(info["means2d"].absgrad.cpu())
        results.append((image.cpu(), info["radii"].cpu().reshape(1, len(scene.means), -1), gradients))
    (image, radii, gradients), (expected, theirs, expected_gradients) = results
    if theirs.shape == radii.shape:
        assert (radii == theirs).float().mean() > 0.999
    else:
        # Since gsplat 1.5 up to 3.33 standard deviations by axis instead of 3, and none for transparent Gaussians.
        assert ((radii > 0).all(-1) == (theirs > 0).all(-1)).float().mean() > 0.97
    assert (image - expected).abs().mean() < 1e-5
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative_error(gradient, wanted) < 2e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("channels", [20, 51])
def test_any_number_of_channels_is_rendered_on_the_gpu(channels: int) -> None:
    scene = small_scene(count=2000, width=200, height=150, channels=channels)
    moved = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in vars(scene).items()}
    image = rasterization(**moved, render_mode="RGB+ED")[0].cpu()
    expected = rasterization(**scene.arguments(), render_mode="RGB+ED")[0]
    assert image.shape == expected.shape and (image - expected).abs().mean() < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_shades_like_the_cpu() -> None:
    scene = small_scene(count=2000, width=200, height=150, harmonics=True)
    colors = shade(scene.gaussians.to("cuda"), scene.view.to("cuda"), scene.colors.cuda(), sh_degree=3).cpu()
    expected = shade(scene.gaussians, scene.view, scene.colors, sh_degree=3)
    seen = rasterization(**scene.arguments(), sh_degree=3)[2]["radii"][0] > 0
    assert relative_error(colors[seen], expected[seen]) < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_backprojection_on_the_gpu_equals_that_on_the_cpu() -> None:
    scene = small_scene(count=2000, width=200, height=150)
    targets = torch.randn(150, 200, 48, generator=torch.Generator().manual_seed(1))
    expected = compositing_weights(scene.gaussians, scene.view).backproject(targets)
    sums = RenderedWeights(scene.gaussians.to("cuda"), scene.view.to("cuda")).backproject(targets.cuda())
    assert relative_error(sums.cpu(), expected) < 1e-3
