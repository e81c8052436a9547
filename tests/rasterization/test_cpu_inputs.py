"""Bad input is named clearly; odd input gives the right picture."""

from __future__ import annotations

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import backproject, compositing_weights, rasterization
from tests.rasterization.gaussian_scenes import SmallScene, small_scene


def render(scene: SmallScene, **changes: object):
    return rasterization(**{**scene.arguments(), **changes})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("means", lambda t: t[:, :2], "means has shape"),
        ("means", lambda t: t.double(), r"means is torch.float64.*\.float\(\)"),
        ("quats", lambda t: t[1:], "quats has shape"),
        ("scales", lambda t: t.half(), "scales is torch.float16"),
        ("opacities", lambda t: t[:, None], "opacities has shape"),
        ("colors", lambda t: t[:5], "colors has shape"),
        ("viewmats", lambda t: t.repeat(2, 1, 1), "viewmats holds 2 cameras"),
        ("viewmats", lambda t: t[0], "viewmats is"),
        ("viewmats", lambda t: t * float("nan"), "viewmat holds NaN"),
        ("Ks", lambda t: t.repeat(3, 1, 1), "Ks holds 3 cameras"),
        ("Ks", lambda t: t * 0, "focal lengths"),
        ("Ks", lambda t: t.clone().requires_grad_(), "Ks requires a gradient"),
        ("means", lambda t: t.to("meta"), "means is on meta"),
    ],
)
def test_tensors_that_do_not_fit_are_named(name: str, change, message: str) -> None:
    scene = small_scene()
    with pytest.raises(GenLangSplatError, match=message):
        render(scene, **{name: change(getattr(scene, name))})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"render_mode": "rgb"}, "render_mode is 'rgb'; expected one of RGB"),
        ({"rasterize_mode": "sharp"}, "rasterize_mode is 'sharp'"),
        ({"packed": True}, "packed is True"),
        ({"sparse_grad": True}, "sparse_grad is True"),
        ({"tile_size": 8}, "tile_size is 8"),
        ({"width": -1}, "width is -1"),
        ({"height": 70000}, "height is 70000"),
        ({"sh_degree": 4}, "sh_degree is 4"),
        ({"sh_degree": 1}, "colors has shape"),
        ({"backgrounds": torch.zeros(3)}, "backgrounds has shape"),
        ({"backgrounds": torch.zeros(1, 4)}, "backgrounds has shape"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        render(small_scene(), **options)


def test_too_few_harmonics_for_the_degree_are_named() -> None:
    scene = small_scene(harmonics=True)
    with pytest.raises(GenLangSplatError, match="holds 4 harmonics per Gaussian; sh_degree 2 needs 9"):
        render(scene, colors=scene.colors[:, :4], sh_degree=2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
@pytest.mark.parametrize("channels", [3, 20, None])
def test_gaussians_that_are_not_finite_are_not_drawn(name: str, bad: float, channels: int | None) -> None:
    scene = small_scene(channels=channels or 3, harmonics=channels is None)
    options = {"sh_degree": 2} if channels is None else {}
    broken = getattr(scene, name).clone()
    broken[::3].view(len(broken[::3]), -1)[:, 0] = bad
    kept = torch.arange(len(broken)) % 3 != 0
    names = ("means", "quats", "scales", "opacities", "colors")
    expected, _, _ = render(scene, **{key: getattr(scene, key)[kept] for key in names}, **options)

    leaves = SmallScene(**{**scene.arguments(), name: broken}).leaves(torch.float32)
    image, _, _ = render(leaves, **options)
    assert torch.equal(image, expected)
    inputs = [*leaves.geometry, leaves.colors]
    for gradient in torch.autograd.grad(image.square().sum(), inputs):
        assert gradient.isfinite().all()
        assert gradient[::3].abs().sum() == 0
        assert gradient[kept].abs().sum() > 0


def test_degenerate_gaussians_are_drawn_as_the_blur_alone_or_not_at_all() -> None:
    scene = small_scene()
    image, _, _ = render(scene, scales=torch.zeros_like(scene.scales))
    assert image.isfinite().all() and image.max() > 0
    image, _, info = render(scene, quats=torch.zeros_like(scene.quats))
    assert image.abs().sum() == 0 and (info["radii"] == 0).all()
    image, _, _ = render(scene, scales=torch.full_like(scene.scales, 1e18))
    assert image.isfinite().all()


@pytest.mark.parametrize(("width", "height"), [(0, 20), (20, 0), (0, 0)])
def test_images_without_pixels_are_empty(width: int, height: int) -> None:
    leaves = small_scene().leaves(torch.float32)
    image, alphas, _ = render(leaves, width=width, height=height)
    assert image.shape == (1, height, width, 3) and alphas.shape == (1, height, width, 1)
    assert torch.autograd.grad(image.sum(), leaves.means)[0].abs().sum() == 0
    weights = compositing_weights(*small_scene().geometry, *small_scene().view[:2], width, height)
    assert weights.composite(torch.ones(150, 2)).shape == (height, width, 2)


def test_a_scene_behind_the_camera_shows_the_background() -> None:
    scene = small_scene()
    leaves = SmallScene(**{**scene.arguments(), "means": scene.means - torch.tensor([0.0, 0.0, 50.0])}).leaves(
        torch.float32
    )
    background = torch.tensor([[0.1, 0.2, 0.3]])
    image, alphas, info = render(leaves, backgrounds=background)
    assert torch.equal(image, background.expand_as(image)) and alphas.abs().sum() == 0
    assert (info["radii"] == 0).all()
    assert torch.autograd.grad(image.sum(), leaves.means)[0].abs().sum() == 0


@pytest.mark.parametrize("channels", [0, 3, 20])
def test_no_gaussians_and_no_channels(channels: int) -> None:
    scene = small_scene(count=0, channels=channels).leaves(torch.float32)
    image, alphas, _ = render(scene)
    assert image.shape == (1, 37, 45, channels) and alphas.abs().sum() == 0
    assert torch.autograd.grad(alphas.sum(), scene.means)[0].shape == (0, 3)
    weights = compositing_weights(*[tensor.detach() for tensor in scene.geometry], *small_scene().view)
    assert weights.num_entries == 0 and weights.to_coo().shape == (37 * 45, 0)
    assert weights.backproject(torch.ones(37, 45, channels)).shape == (0, channels)
    full = small_scene(channels=channels).leaves(torch.float32)
    assert render(full)[0].shape == (1, 37, 45, channels)


def test_tensors_need_not_be_contiguous() -> None:
    scene = small_scene()
    strided = {
        name: getattr(scene, name).repeat_interleave(2, dim=0)[::2]
        for name in ("means", "quats", "scales", "opacities", "colors")
    }
    transposed = scene.viewmats.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(render(scene, **strided, viewmats=transposed)[0], render(scene)[0])
    leaf = scene.colors.t().contiguous().requires_grad_()
    image, _, _ = render(scene, colors=leaf.t())
    image.permute(0, 3, 2, 1).flatten()[::2].sum().backward()
    assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_only_colors_may_want_a_gradient() -> None:
    scene = small_scene()
    features = scene.colors.clone().requires_grad_()
    image, _, info = render(scene, colors=features)
    (gradient,) = torch.autograd.grad(image, features, torch.ones_like(image))
    assert not info["means2d"].requires_grad
    sums = backproject(*scene.geometry, *scene.view, torch.ones(37, 45, 3))
    assert torch.allclose(gradient, sums, atol=1e-5)


def test_weights_name_what_does_not_fit() -> None:
    scene = small_scene()
    weights = compositing_weights(*scene.geometry, *scene.view)
    with pytest.raises(GenLangSplatError, match=r"features has shape \(3, 2\); expected \(150, any\)"):
        weights.composite(torch.ones(3, 2))
    with pytest.raises(GenLangSplatError, match=r"targets has shape \(45, 37, 3\); expected \(37, 45, any\)"):
        weights.backproject(torch.ones(45, 37, 3))
    with pytest.raises(GenLangSplatError, match="rasterize_mode"):
        compositing_weights(*scene.geometry, *scene.view, rasterize_mode="none")
    with pytest.raises(GenLangSplatError, match="viewmat has shape"):
        compositing_weights(*scene.geometry, scene.viewmats, *scene.view[1:])
