"""Invalid inputs are refused with a clear message; unusual inputs give the right image."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import Gaussians, View, compositing_weights, rasterization
from tests.rasterization.gaussian_scenes import SmallScene, dense, relative_error, small_scene

pytestmark = pytest.mark.usefixtures("unwritten_memory_is_nan")

PARAMETERS = ("means", "quats", "scales", "opacities", "colors")


def render(scene: SmallScene, **changes: object):
    return rasterization(**{**scene.arguments(), **changes})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("means", lambda t: t[:, :2], "means has shape"),
        ("means", lambda t: t.double(), r"means is torch.float64.*\.float\(\)"),
        ("quats", lambda t: t[1:], "quats has shape"),
        ("quats", lambda t: t.double(), "quats is torch.float64"),
        ("scales", lambda t: t.half(), "scales is torch.float16"),
        ("opacities", lambda t: t[:, None], "opacities has shape"),
        ("opacities", lambda t: t.double(), "opacities is torch.float64"),
        ("colors", lambda t: t[:5], "colors has shape"),
        ("colors", lambda t: t.double(), "colors is torch.float64"),
        ("viewmats", lambda t: t.repeat(2, 1, 1), "viewmats holds 2 cameras"),
        ("viewmats", lambda t: t[0], "viewmats is"),
        ("viewmats", lambda t: t * float("nan"), "viewmat holds NaN"),
        ("viewmats", lambda t: t.double(), "viewmat is torch.float64"),
        ("Ks", lambda t: t.repeat(3, 1, 1), "Ks holds 3 cameras"),
        ("Ks", lambda t: t * 0, "focal lengths"),
        ("Ks", lambda t: t.double(), "K is torch.float64"),
        ("Ks", lambda t: t.clone().requires_grad_(), "Ks requires a gradient"),
        ("means", lambda t: t.to("meta"), "means is on meta"),
    ],
)
def test_invalid_tensors_are_named(name: str, change, message: str) -> None:
    scene = small_scene()
    with pytest.raises(GenLangSplatError, match=message):
        render(scene, **{name: change(getattr(scene, name))})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"render_mode": "rgb"}, "render_mode is 'rgb'; choose one of RGB"),
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
        ({"backgrounds": torch.zeros(1, 3, dtype=torch.float64)}, "backgrounds is torch.float64"),
    ],
)
def test_invalid_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        render(small_scene(), **options)


def test_too_few_harmonics_for_the_degree_are_named() -> None:
    scene = small_scene(harmonics=True)
    with pytest.raises(GenLangSplatError, match="holds 4 harmonics per Gaussian; sh_degree 2 needs 9"):
        render(scene, colors=scene.colors[:, :4], sh_degree=2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
@pytest.mark.parametrize("channels", [3, 20, None])
def test_gaussians_that_are_not_finite_are_skipped(name: str, bad: float, channels: int | None) -> None:
    scene = small_scene(channels=channels or 3, harmonics=channels is None)
    options = {"sh_degree": 2} if channels is None else {}
    broken = getattr(scene, name).clone()
    broken[::3].view(len(broken[::3]), -1)[:, 0] = bad
    kept = torch.arange(len(broken)) % 3 != 0
    expected, _, _ = render(scene, **{key: getattr(scene, key)[kept] for key in PARAMETERS}, **options)

    leaves = SmallScene(**{**scene.arguments(), name: broken}).leaves(torch.float32)
    image, _, _ = render(leaves, **options)
    assert torch.equal(image, expected)
    inputs = [*leaves.gaussians.tensors(), leaves.colors]
    for gradient in torch.autograd.grad(image.square().sum(), inputs):
        assert gradient.isfinite().all()
        assert gradient[::3].abs().sum() == 0
        assert gradient[kept].abs().sum() > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities"])
def test_gaussians_that_are_not_finite_have_no_weights(name: str, bad: float) -> None:
    scene = small_scene()
    broken = getattr(scene, name).clone()
    broken[::3].view(len(broken[::3]), -1)[:, 0] = bad
    kept = torch.arange(len(broken)) % 3 != 0
    expected = dense(compositing_weights(scene.gaussians[kept], scene.view))
    gaussians = SmallScene(**{**scene.arguments(), name: broken}).gaussians
    matrix = dense(compositing_weights(gaussians, scene.view))
    assert torch.equal(matrix[:, kept], expected)
    assert matrix[:, ~kept].abs().sum() == 0


def test_degenerate_gaussians_are_drawn_as_blur_or_skipped() -> None:
    scene = small_scene()
    image, _, _ = render(scene, scales=torch.zeros_like(scene.scales))
    assert image.isfinite().all() and image.max() > 0
    image, _, info = render(scene, quats=torch.zeros_like(scene.quats))
    assert image.abs().sum() == 0 and (info["radii"] == 0).all()
    image, _, _ = render(scene, scales=torch.full_like(scene.scales, 1e18))
    assert image.isfinite().all()


def assert_all_gradients_are_zero(leaves: SmallScene, **options: object) -> None:
    image, alphas, info = render(leaves, absgrad=True, **options)
    inputs = [*leaves.gaussians.tensors(), leaves.colors, leaves.viewmats, info["means2d"]]
    for gradient in (*torch.autograd.grad(image.sum() + alphas.sum(), inputs), info["means2d"].absgrad):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize(("width", "height"), [(0, 20), (20, 0), (0, 0)])
def test_images_without_pixels_are_empty(width: int, height: int, channels: int) -> None:
    # Some Gaussians overlap the borders of such an image and count as visible.
    scene = small_scene(channels=channels)
    camera = scene.Ks * torch.tensor([[1.0, 1.0, width / 45], [1.0, 1.0, height / 37], [1.0, 1.0, 1.0]])
    leaves = SmallScene(**{**scene.arguments(), "Ks": camera}).leaves(torch.float32)
    image, alphas, info = render(leaves, width=width, height=height)
    assert image.shape == (1, height, width, channels) and alphas.shape == (1, height, width, 1)
    assert (info["radii"] > 0).any()
    assert_all_gradients_are_zero(leaves, width=width, height=height)
    weights = compositing_weights(scene.gaussians, View(scene.viewmats[0], camera[0], width, height))
    assert weights.num_entries == 0
    assert weights.composite(torch.ones(150, 2)).shape == (height, width, 2)
    assert torch.equal(weights.backproject(torch.ones(height, width, 2)), torch.zeros(150, 2))


@pytest.mark.parametrize("channels", [3, 20])
def test_a_scene_behind_the_camera_shows_the_background(channels: int) -> None:
    scene = small_scene(channels=channels)
    behind = SmallScene(**{**scene.arguments(), "means": scene.means - torch.tensor([0.0, 0.0, 50.0])})
    background = torch.linspace(0.1, 0.9, channels)[None]
    image, alphas, info = render(behind, backgrounds=background)
    assert torch.equal(image, background.expand_as(image)) and alphas.abs().sum() == 0
    assert (info["radii"] == 0).all()
    assert_all_gradients_are_zero(behind.leaves(torch.float32), backgrounds=background)
    weights = compositing_weights(behind.gaussians, behind.view)
    assert weights.num_entries == 0
    assert torch.equal(weights.composite(scene.colors), torch.zeros(37, 45, channels))
    assert torch.equal(weights.backproject(torch.ones(37, 45, channels)), torch.zeros(150, channels))


@pytest.mark.parametrize("channels", [3, 20])
def test_visible_gaussians_below_the_drawing_threshold_have_no_gradient(channels: int) -> None:
    scene = small_scene(channels=channels)
    faint = SmallScene(**{**scene.arguments(), "opacities": torch.full((150,), 0.003)})
    image, alphas, info = render(faint)
    assert (info["radii"] > 0).any() and image.abs().sum() == 0 and alphas.abs().sum() == 0
    assert_all_gradients_are_zero(faint.leaves(torch.float32))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(("opacity", "channels"), [(0.005, 1), (0.3, 5), (1.0, 3)])
def test_a_million_gaussians_on_one_pixel_have_the_opacity_of_the_formula(opacity: float, channels: int) -> None:
    """With opacity o, the transmittance after k Gaussians is (1 - o)^k, until the pixel is saturated."""
    count, row, column = 1_000_000, 8, 10
    rank = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    means = torch.zeros(count, 3)
    means[:, 2] = 1 + 1e-6 * rank
    color = torch.linspace(0.25, 1.0, channels)
    scene = SmallScene(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        scales=torch.full((count, 3), 1e-6),
        opacities=torch.full((count,), opacity),
        colors=color.repeat(count, 1),
        viewmats=torch.eye(4)[None],
        Ks=torch.tensor([[[20.0, 0.0, column + 0.5], [0.0, 20.0, row + 0.5], [0.0, 0.0, 1.0]]]),
        width=21,
        height=17,
    )
    capped = min(opacity, 0.999)
    drawn = math.ceil(math.log(1e-4) / math.log(1 - capped)) - 1
    weights = torch.where(rank < drawn, capped * (1 - capped) ** rank.double(), 0.0).float()

    # With so little blur, no other pixel is touched.
    leaves = scene.leaves(torch.float32)
    image, alphas, _ = render(leaves, eps2d=0.01)
    assert alphas[0, row, column, 0].item() == pytest.approx(1 - (1 - capped) ** drawn, abs=1e-6)
    assert torch.allclose(image[0, row, column], color * weights.sum(), atol=2e-5)
    assert (alphas > 0).sum() == 1 and (image > 0).sum() == channels

    loss = image.sum() + alphas.sum()
    to_means, to_opacities, to_colors = torch.autograd.grad(loss, [leaves.means, leaves.opacities, leaves.colors])
    assert to_means.abs().sum() == 0
    assert torch.allclose(to_colors, weights[:, None].expand_as(to_colors), rtol=1e-3, atol=0)
    slope = (color.sum().item() + 1) * (1 - capped) ** (drawn - 1) if opacity == capped else 0.0
    assert torch.allclose(to_opacities, torch.where(rank < drawn, slope, 0.0), rtol=0.01, atol=0)

    matrix = compositing_weights(scene.gaussians, scene.view, eps2d=0.01)
    assert matrix.num_entries == drawn
    sums = matrix.backproject(torch.ones(17, 21, 1))[:, 0]
    assert torch.allclose(sums, weights, rtol=1e-3, atol=0)


@pytest.mark.parametrize("channels", [0, 3, 20])
def test_no_gaussians_and_no_channels(channels: int) -> None:
    scene = small_scene(count=0, channels=channels).leaves(torch.float32)
    image, alphas, _ = render(scene)
    assert image.shape == (1, 37, 45, channels) and alphas.abs().sum() == 0
    assert torch.autograd.grad(alphas.sum(), scene.means)[0].shape == (0, 3)
    weights = compositing_weights(scene.gaussians.detach(), small_scene().view)
    assert weights.num_entries == 0 and dense(weights).shape == (37 * 45, 0)
    assert weights.backproject(torch.ones(37, 45, channels)).shape == (0, channels)
    full = small_scene(channels=channels).leaves(torch.float32)
    assert render(full)[0].shape == (1, 37, 45, channels)


def test_alphas_have_the_same_gradients_without_channels() -> None:
    gradients = []
    for channels in (0, 3, 20):
        leaves = small_scene(channels=channels).leaves(torch.float32)
        _, alphas, info = render(leaves, absgrad=True)
        gradients.append((*torch.autograd.grad(alphas.sum(), leaves.gaussians.tensors()), info["means2d"].absgrad))
    for gradient, narrow, wide in zip(*gradients, strict=True):
        assert gradient.abs().sum() > 0
        assert torch.allclose(gradient, narrow, atol=1e-4) and torch.allclose(gradient, wide, atol=1e-4)


def test_without_channels_the_weights_give_empty_sums() -> None:
    scene = small_scene(channels=0)
    weights = compositing_weights(scene.gaussians, scene.view)
    features = scene.colors.clone().requires_grad_()
    image = weights.composite(features)
    assert image.shape == (37, 45, 0)
    assert torch.autograd.grad(image.sum(), features)[0].shape == (150, 0)


@pytest.mark.usefixtures("instruction_set")
def test_513_channels_equal_those_drawn_in_small_groups() -> None:
    scene = small_scene(count=60, width=19, height=18, channels=513)
    leaves = scene.leaves(torch.float32)
    targets = torch.randn(1, 18, 19, 513, generator=torch.Generator().manual_seed(1))
    image, _, _ = render(leaves)
    gradients = torch.autograd.grad(image, [leaves.means, leaves.opacities, leaves.colors], targets)
    expected = [torch.zeros_like(gradient) for gradient in gradients]
    for first in range(0, 513, 3):
        leaves = SmallScene(**{**scene.arguments(), "colors": scene.colors[:, first : first + 3]}).leaves(torch.float32)
        part, _, _ = render(leaves)
        assert torch.allclose(image[..., first : first + 3], part, atol=1e-6)
        inputs = [leaves.means, leaves.opacities, leaves.colors]
        to_means, to_opacities, to_colors = torch.autograd.grad(part, inputs, targets[..., first : first + 3])
        expected[0] += to_means
        expected[1] += to_opacities
        expected[2][:, first : first + 3] = to_colors
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert relative_error(gradient, wanted) < 1e-4


def test_tensors_need_not_be_contiguous() -> None:
    scene = small_scene()
    strided = {name: getattr(scene, name).repeat_interleave(2, dim=0)[::2] for name in PARAMETERS}
    transposed = scene.viewmats.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(render(scene, **strided, viewmats=transposed)[0], render(scene)[0])
    leaf = scene.colors.t().contiguous().requires_grad_()
    image, _, _ = render(scene, colors=leaf.t())
    image.permute(0, 3, 2, 1).flatten()[::2].sum().backward()
    assert leaf.grad is not None and leaf.grad.abs().sum() > 0

    weights = compositing_weights(scene.gaussians, scene.view)
    gaussians = Gaussians(*(strided[name] for name in PARAMETERS[:4]))
    assert torch.equal(
        compositing_weights(gaussians, replace(scene.view, viewmat=transposed[0])).composite(scene.colors),
        weights.composite(leaf.detach().t()),
    )
    targets = torch.rand(3, 45, 37, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        weights.backproject(targets.permute(2, 1, 0)), weights.backproject(targets.permute(2, 1, 0).contiguous())
    )


def test_colors_alone_may_require_a_gradient() -> None:
    scene = small_scene()
    features = scene.colors.clone().requires_grad_()
    image, _, info = render(scene, colors=features)
    (gradient,) = torch.autograd.grad(image, features, torch.ones_like(image))
    assert not info["means2d"].requires_grad
    sums = compositing_weights(scene.gaussians, scene.view).backproject(torch.ones(37, 45, 3))
    assert torch.allclose(gradient, sums, atol=1e-5)


def test_invalid_arguments_of_weights_are_named() -> None:
    scene = small_scene()
    weights = compositing_weights(scene.gaussians, scene.view)
    with pytest.raises(GenLangSplatError, match=r"features has shape \(3, 2\); expected \(150, any\)"):
        weights.composite(torch.ones(3, 2))
    with pytest.raises(GenLangSplatError, match=r"targets has shape \(45, 37, 3\); expected \(37, 45, any\)"):
        weights.backproject(torch.ones(45, 37, 3))
    with pytest.raises(GenLangSplatError, match=r"features is torch\.float64"):
        weights.composite(torch.ones(150, 2, dtype=torch.float64))
    with pytest.raises(GenLangSplatError, match=r"targets is torch\.float64"):
        weights.backproject(torch.ones(37, 45, 3, dtype=torch.float64))
    with pytest.raises(GenLangSplatError, match="rasterize_mode"):
        compositing_weights(scene.gaussians, scene.view, rasterize_mode="none")
    with pytest.raises(GenLangSplatError, match="viewmat holds NaN"):
        compositing_weights(scene.gaussians, replace(scene.view, viewmat=scene.view.viewmat * float("nan")))
