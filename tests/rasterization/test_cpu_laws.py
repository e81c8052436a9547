"""Properties that hold for every scene, and reproducibility."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import autograd, compositing_weights, rasterization, shade
from tests.rasterization import reference
from tests.rasterization.gaussian_scenes import SmallScene, small_scene

scenes = st.builds(
    small_scene,
    count=st.integers(1, 60),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    channels=st.sampled_from([1, 3, 7, 17]),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=25, deadline=None)
@given(scenes, st.floats(-2, 2), st.floats(-2, 2))
def test_rendering_is_linear_in_the_features(scene: SmallScene, first: float, second: float) -> None:
    other = scene.colors.flip(0)

    def render(features: Tensor) -> Tensor:
        return rasterization(**{**scene.arguments(), "colors": features})[0]

    mixed = render(first * scene.colors + second * other)
    assert torch.allclose(mixed, first * render(scene.colors) + second * render(other), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_alphas_are_the_sum_of_weights_and_lie_between_0_and_1(scene: SmallScene) -> None:
    _, alphas, _ = rasterization(**scene.arguments())
    weights = compositing_weights(scene.gaussians, scene.view)
    assert alphas.min() >= 0 and alphas.max() <= 1
    sums = weights.composite(torch.ones(weights.num_gaussians, 1))
    assert torch.allclose(sums, alphas[0], atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_weights_times_features_is_the_image(scene: SmallScene) -> None:
    image, _, _ = rasterization(**scene.arguments())
    assert torch.allclose(compositing_weights(scene.gaussians, scene.view).composite(scene.colors), image[0], atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(scenes, st.randoms())
def test_the_order_of_the_gaussians_does_not_matter(scene: SmallScene, random) -> None:
    order = list(range(len(scene.means)))
    random.shuffle(order)
    names = ("means", "quats", "scales", "opacities", "colors")
    shuffled = {name: getattr(scene, name)[order] for name in names}
    image, _, _ = rasterization(**scene.arguments())
    assert torch.equal(rasterization(**{**scene.arguments(), **shuffled})[0], image)


def everything(scene: SmallScene) -> list[Tensor]:
    """All results of a forward and a backward pass."""
    leaves = scene.leaves(torch.float32)
    inputs = [*leaves.gaussians.tensors(), leaves.colors, leaves.viewmats]
    image, alphas, info = rasterization(**leaves.arguments(), absgrad=True)
    gradients = torch.autograd.grad((image.square().sum() + alphas.sum()), inputs)
    weights = compositing_weights(scene.gaussians, scene.view)
    sums = weights.backproject(image[0].detach())
    return [image, alphas, *gradients, info["means2d"].absgrad, sums, weights.composite(sums)]


@pytest.mark.usefixtures("keep_thread_count", "instruction_set")
@pytest.mark.parametrize("channels", [3, 40])
def test_results_are_bit_identical_in_every_run_and_with_any_number_of_threads(channels: int) -> None:
    scene = small_scene(count=3000, width=150, height=110, channels=channels)
    torch.set_num_threads(1)
    expected = everything(scene)
    for threads in (1, 2, 2, 3):
        torch.set_num_threads(threads)
        for value, wanted in zip(everything(scene), expected, strict=True):
            assert torch.equal(value, wanted)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("values", [1, 5000, 1 << 20])
def test_an_image_without_gradients_is_drawn_in_bands_and_is_the_same(
    channels: int, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autograd, "BAND_VALUES", values)
    scene = small_scene(count=500, width=70, height=90, channels=channels)
    background = torch.rand(1, channels)
    whole = rasterization(**scene.leaves(torch.float32).arguments(), backgrounds=background)
    banded = rasterization(**scene.arguments(), backgrounds=background)
    assert torch.equal(banded[0], whole[0]) and torch.equal(banded[1], whole[1])


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 600))
def test_bands_cover_the_tiles_once_and_stay_small(width: int, height: int, channels: int) -> None:
    bands = list(autograd.bands(width, height, channels, whole=False))
    columns, rows = -(-width // 16), -(-height // 16)
    assert [tile for first, count in bands for tile in range(first, first + count)] == list(range(columns * rows))
    for _, count in bands:
        assert count <= columns or count * 256 * channels <= 2 * autograd.BAND_VALUES
    assert list(autograd.bands(width, height, channels, whole=True)) == ([(0, columns * rows)] if rows else [])


def test_absolute_gradients_are_sums_over_pixels() -> None:
    """Compares with the sum of |d loss of the pixel / d mean| from the reference, pixel by pixel."""
    for channels in (3, 20):
        scene = small_scene(count=25, width=9, height=8, channels=channels)
        leaves = scene.leaves(torch.float32)
        image, alphas, info = rasterization(**leaves.arguments(), absgrad=True)
        weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
        ((image * weight).sum() + alphas.sum()).backward()

        splats = reference.project(scene.gaussians, scene.view)
        means2d = splats.means2d.requires_grad_()
        image, alphas = reference.composite(splats, scene.opacities, scene.colors, scene.width, scene.height)
        pixels = (image * weight[0]).sum(-1) + alphas[..., 0]
        expected = sum(torch.autograd.grad(pixel, means2d, retain_graph=True)[0].abs() for pixel in pixels.flatten())
        assert expected.max() > 0.1
        assert torch.allclose(info["means2d"].absgrad[0], expected, rtol=1e-3, atol=1e-4)


def test_means2d_keep_their_gradient_in_the_graph() -> None:
    leaves = small_scene().leaves(torch.float32)
    image, _, info = rasterization(**leaves.arguments())
    info["means2d"].retain_grad()
    image.square().sum().backward()
    assert info["means2d"].grad.shape == (1, 150, 2)
    assert info["means2d"].grad[info["radii"] > 0].abs().sum() > 0
    assert info["means2d"].grad[info["radii"] == 0].abs().sum() == 0
    assert not hasattr(info["means2d"], "absgrad")


def test_a_second_backward_pass_gives_the_same_gradients() -> None:
    leaves = small_scene().leaves(torch.float32)
    image, _, _ = rasterization(**leaves.arguments())
    loss = image.square().sum()
    first = torch.autograd.grad(loss, leaves.means, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, leaves.means)[0], first)


def _render_in_child(scene: SmallScene, queue: multiprocessing.Queue) -> None:
    queue.put(rasterization(**scene.arguments())[0].sum().item())


@pytest.mark.usefixtures("keep_thread_count")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
def test_a_forked_child_renders_with_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    scene = small_scene()
    expected = rasterization(**scene.arguments())[0].sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_render_in_child, args=(scene, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0


@pytest.mark.parametrize("channels", [2, 5, 6, 7, 8, 9, 17])
def test_channels_drawn_together_equal_those_drawn_alone(channels: int) -> None:
    arguments = small_scene(channels=channels).arguments()
    together = rasterization(**arguments)[0]
    for channel in range(channels):
        alone = rasterization(**{**arguments, "colors": arguments["colors"][:, channel : channel + 1]})[0]
        torch.testing.assert_close(together[..., channel : channel + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sh_degree", [0, 1, 3])
def test_shaded_colors_render_like_harmonics(sh_degree: int) -> None:
    scene = small_scene(harmonics=True)
    shaded = shade(scene.gaussians, scene.view, scene.colors, sh_degree=sh_degree)
    plain = rasterization(**{**scene.arguments(), "colors": shaded}, render_mode="RGB+ED")[0]
    expected = rasterization(**scene.arguments(), sh_degree=sh_degree, render_mode="RGB+ED")[0]
    torch.testing.assert_close(plain, expected, atol=1e-6, rtol=1e-5)


def test_shade_refuses_what_the_rasterizer_refuses() -> None:
    scene = small_scene(harmonics=True)
    with pytest.raises(GenLangSplatError, match="sh_degree"):
        shade(scene.gaussians, scene.view, scene.colors, sh_degree=4)
