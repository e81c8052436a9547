"""Runs kernels that were compiled with sanitizers on hostile input; the first bad access ends the process.

`test_sanitizers.py` compiles the library and runs this once per instruction set. By hand, with its flags:

    g++ $FLAGS -I genlangsplat_ns/rasterization/kernels -fPIC -shared tests/rasterization/sanitized_kernels.cpp -o k.so
    RUNTIME="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so.6)"
    LD_PRELOAD="$RUNTIME" ASAN_OPTIONS=detect_leaks=0 python -m tests.rasterization.sanitized_driver avx2 k.so

Or `python -m tests.rasterization.sanitizers --scenes 5000 --crowd 5000000`, which compiles every build, runs it and
prints the figures.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from genlangsplat_ns.language.attention import KeyTable, attend, weighted_sums
from genlangsplat_ns.rasterization import View, autograd, compositing_weights, library, rasterization
from genlangsplat_ns.rasterization.ssim import structural_similarity
from tests.rasterization.gaussian_scenes import SmallScene, small_scene
from tests.rasterization.hostile_cases import a_crowd_in_one_tile, every_allocation_fails_once, hostile_scenes

THREADS = (1, 3)
CHANNELS = (0, 1, 3, 4, 5, 16, 48, 513)
SIZES = ((45, 37), (1, 1), (16, 16), (3, 50), (0, 7), (7, 0))
PARAMETERS = ("means", "quats", "scales", "opacities", "colors")
CROWD = 200_000


def changed(scene: SmallScene, **changes: object) -> SmallScene:
    """The scene with other values of some fields."""
    return SmallScene(**{**scene.arguments(), **changes})


def check_finite(tensors: list[Tensor]) -> None:
    """Asserts finite values; unwritten memory reads as NaN in this test."""
    assert all(bool(tensor.isfinite().all()) for tensor in tensors)


def draw(scene: SmallScene, **options: object) -> None:
    """Renders without gradients, and forward and backward with all gradients."""
    with torch.no_grad():
        check_finite(list(rasterization(**scene.arguments(), **options)[:2]))
    leaves = scene.leaves(torch.float32)
    image, alphas, info = rasterization(**leaves.arguments(), absgrad=True, **options)
    inputs = [*leaves.gaussians.tensors(), leaves.colors, leaves.viewmats]
    gradients = torch.autograd.grad(image.square().sum() + alphas.sum(), inputs, materialize_grads=True)
    check_finite([image, alphas, *gradients, info["means2d"].absgrad])


def draw_roughly(scene: SmallScene, **options: object) -> None:
    """Renders forward and backward and extracts the weights, for inputs that may overflow."""
    image, alphas, _ = rasterization(**scene.leaves(torch.float32).arguments(), **options)
    (image.sum() + alphas.sum()).backward()
    compositing_weights(scene.gaussians, scene.view, **options).composite(torch.ones(len(scene.means), 1))


def draw_colors_alone(scene: SmallScene) -> None:
    """Computes the gradient of the colors only, and the gradients of the alphas only, which use other code paths."""
    features = scene.colors.clone().requires_grad_()
    image, _, _ = rasterization(**{**scene.arguments(), "colors": features})
    check_finite(list(torch.autograd.grad(image.sum(), features)))
    leaves = scene.leaves(torch.float32)
    _, alphas, _ = rasterization(**leaves.arguments())
    check_finite(list(torch.autograd.grad(alphas.sum(), leaves.gaussians.tensors())))


def weigh(scene: SmallScene) -> None:
    """Extracts the weights in both precisions, and multiplies with them in both directions."""
    channels = scene.colors.shape[1]
    targets = torch.linspace(-1, 1, scene.height * scene.width * channels).view(scene.height, scene.width, channels)
    for half_precision in (False, True):
        weights = compositing_weights(scene.gaussians, scene.view, half_precision=half_precision)
        features = torch.linspace(-1, 1, scene.colors.numel()).view_as(scene.colors).requires_grad_()
        image = weights.composite(features)
        (gradient,) = torch.autograd.grad(image, features, targets)
        check_finite([image, gradient, weights.backproject(targets)])


def any_number_of_channels() -> None:
    for channels in CHANNELS:
        scene = small_scene(count=60, width=37, height=29, channels=channels)
        draw(scene)
        draw(scene, backgrounds=torch.rand(1, channels), render_mode="RGB+ED")
        draw_colors_alone(scene)
        weigh(scene)


def any_image_size() -> None:
    for width, height in SIZES:
        for channels in (3, 5):
            scene = small_scene(count=60, width=width, height=height, channels=channels)
            centered = torch.tensor([[[9.0, 0.0, width / 2], [0.0, 9.0, height / 2], [0.0, 0.0, 1.0]]])
            scene = changed(scene, Ks=centered)
            draw(scene)
            weigh(scene)


def many_faint_gaussians_per_tile() -> None:
    for channels in (3, 20):
        scene = small_scene(count=500, width=33, height=17, channels=channels)
        faint = changed(scene, opacities=0.01 + 0.02 * scene.opacities, scales=2 * scene.scales)
        draw(faint)
        draw_colors_alone(faint)
        weigh(faint)


def pictures_in_bands() -> None:
    whole, autograd.BAND_VALUES = autograd.BAND_VALUES, 1
    for channels in (3, 20):
        draw(small_scene(channels=channels))
    autograd.BAND_VALUES = whole


def harmonics_and_modes() -> None:
    for degree in range(4):
        draw(small_scene(count=33, harmonics=True), sh_degree=degree, rasterize_mode="antialiased")
    for mode in ("D", "ED", "RGB+D"):
        draw(small_scene(), render_mode=mode)


def parameters_that_are_not_finite() -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        for name in PARAMETERS:
            for channels in (3, 20):
                scene = small_scene(count=40, channels=channels)
                broken = getattr(scene, name).clone()
                broken[::3].view(len(broken[::3]), -1)[:, 0] = bad
                draw(changed(scene, **{name: broken}))
                if name != "colors":
                    weigh(changed(scene, **{name: broken}))
        draw(changed(small_scene(count=17), means=torch.full((17, 3), bad)))


def nothing_to_see() -> None:
    for channels in (3, 20):
        scene = small_scene(channels=channels)
        empty = small_scene(count=0, channels=channels)
        behind = changed(scene, means=scene.means - torch.tensor([0.0, 0.0, 50.0]))
        at_the_camera = changed(scene, means=torch.linalg.inv(scene.viewmats[0])[:3, 3].expand(150, 3).contiguous())
        clear = changed(scene, opacities=torch.zeros(150))
        for nothing in (empty, behind, at_the_camera, clear):
            draw(nothing)
            draw_colors_alone(nothing)
            weigh(nothing)


def sizes_from_huge_to_tiny() -> None:
    for scale in (0.0, 1e-38, 1e-12, 1e3, 1e9):
        for channels in (3, 20):
            scene = changed(small_scene(count=40, channels=channels), scales=torch.full((40, 3), scale))
            draw(scene)
            weigh(scene)
    for scale in (1e18, 1e38):
        draw_roughly(changed(small_scene(count=40), scales=torch.full((40, 3), scale)))


def cameras_at_the_limits() -> None:
    scene = small_scene(count=40, channels=5)
    for factor in (1e-30, 1e-3, 1e4, 1e30):
        focal = torch.tensor([[[factor, 1, 1], [1, factor, 1], [1, 1, 1]]])
        center = torch.tensor([[[1, 1, factor], [1, 1, factor], [1, 1, 1]]])
        for factors in (focal, center):
            draw_roughly(changed(scene, Ks=scene.Ks * factors))
        draw_roughly(changed(scene, viewmats=scene.viewmats * focal.new_tensor([factor, 1, 1, 1])))
    for options in ({"near_plane": 0.0}, {"near_plane": -1e30}, {"far_plane": -1.0}, {"eps2d": 0.0}, {"eps2d": -1.0}):
        draw_roughly(scene, **options)
    for option in ("near_plane", "far_plane", "eps2d"):
        for bad in (float("nan"), float("inf"), -float("inf")):
            draw_roughly(scene, **{option: bad})
    draw_roughly(changed(scene, opacities=scene.opacities * 1e30))
    draw_roughly(changed(scene, opacities=-scene.opacities, scales=-scene.scales))
    for width, height in ((65535, 1), (1, 65535)):
        draw_roughly(changed(scene, width=width, height=height))


def a_crowd_on_one_pixel() -> None:
    scene = small_scene(count=CROWD, width=21, height=17)
    camera = torch.linalg.inv(scene.viewmats[0])
    crowd = changed(
        scene,
        means=(camera[:3, 3] + 2 * camera[:3, 2]).expand(CROWD, 3).contiguous(),
        scales=torch.full((CROWD, 3), 1e-6),
        opacities=torch.full((CROWD,), 0.004),
    )
    # The neighboring pixels keep the traversal going through all Gaussians.
    image, alphas, _ = rasterization(**crowd.leaves(torch.float32).arguments())
    image.sum().backward()
    assert alphas.max() > 0.999
    middle = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    weights = compositing_weights(crowd.gaussians, View(crowd.viewmats[0], middle, 1, 1))
    assert weights.num_entries > 2000
    weights.backproject(weights.composite(torch.ones(CROWD, 5)))


def tensors_with_gaps() -> None:
    scene = small_scene(channels=20)
    strided = {name: getattr(scene, name).repeat_interleave(2, dim=0)[::2] for name in PARAMETERS}
    draw(changed(scene, **strided))
    leaf = scene.colors.t().contiguous().requires_grad_()
    image, _, _ = rasterization(**{**scene.arguments(), "colors": leaf.t()})
    image.permute(0, 3, 2, 1).flatten()[::2].sum().backward()
    weights = compositing_weights(scene.gaussians, scene.view)
    weights.backproject(torch.rand(20, scene.height, scene.width).permute(1, 2, 0))


def similar_pictures() -> None:
    for height, width in ((11, 11), (12, 40), (33, 17), (5, 8)):
        for channels in (1, 3):
            moving, fixed = torch.rand(2, 1, channels, height, width)
            for first in (moving, moving.transpose(2, 3).contiguous().transpose(2, 3), torch.zeros_like(moving)):
                leaf = first.clone().requires_grad_()
                value = structural_similarity(leaf, fixed)
                value.backward()
                assert leaf.grad is not None
                check_finite([value, leaf.grad])
            for bad in (float("nan"), float("inf")):
                structural_similarity(torch.full_like(moving, bad, requires_grad=True), fixed).backward()


def attend_to(keys: int, dim: int, latents: Tensor, columns: int) -> None:
    """Computes attention weights of random keys, and weighted sums of the rows of a table."""
    unit = torch.nn.functional.normalize(torch.randn(keys, dim), dim=-1)
    table = KeyTable.of(unit, torch.full((keys,), -3.0), torch.randn(keys, 8), 60.0, 30.0)
    found = attend(table, latents)
    assert not len(latents) or 0 <= int(found.indices.min()) <= int(found.indices.max()) < keys
    sums = weighted_sums(found.indices, found.weights, torch.randn(keys, columns))
    if bool(latents.isfinite().all()):
        check_finite([found.weights, found.priors, found.lengths, sums])


def attention_to_any_number_of_keys() -> None:
    for keys in (1, 5, 16, 17, 300, 1024):
        for dim in (1, 3, 16):
            for count in (0, 1, 5, 300):
                attend_to(keys, dim, torch.randn(count, dim), columns=keys % 7 + 1)
    attend_to(40, 6, torch.randn(9000, 6), columns=513)


def attention_of_any_latents() -> None:
    for value in (0.0, 1e-45, 1e-30, 1e30, 3e38, float("nan"), float("inf"), -float("inf")):
        for keys in (1, 40):
            attend_to(keys, 5, torch.full((7, 5), value), columns=3)
            mixed = torch.randn(7, 5)
            mixed[::3, 2] = value
            attend_to(keys, 5, mixed, columns=3)


def attention_with_extreme_weights() -> None:
    latents, keys = torch.randn(30, 5), torch.nn.functional.normalize(torch.randn(40, 5), dim=-1)
    for concentration in (0.0, 1e-30, 1e4, 1e30):
        for log_mass in (0.0, -60000.0, 60000.0):
            for prior in (0.0, -float("inf"), -1e30, 1e30):
                table = KeyTable.of(keys, torch.full((40,), log_mass), torch.randn(40, 8), concentration, prior)
                found = attend(table, latents)
                weighted_sums(found.indices, found.weights, table.values)


def two_callers_at_once() -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(draw, small_scene(channels=channels, seed=channels)) for channels in (3, 20, 3, 5)]:
            done.result()


CASES = (
    any_number_of_channels,
    any_image_size,
    many_faint_gaussians_per_tile,
    pictures_in_bands,
    harmonics_and_modes,
    parameters_that_are_not_finite,
    nothing_to_see,
    sizes_from_huge_to_tiny,
    cameras_at_the_limits,
    tensors_with_gaps,
    similar_pictures,
    attention_to_any_number_of_keys,
    attention_of_any_latents,
    attention_with_extreme_weights,
    two_callers_at_once,
)


def main() -> None:
    """Runs all cases, on threads of their own and on those of OpenMP."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("instruction_set", choices=library.INSTRUCTION_SETS)
    parser.add_argument("path", type=Path, help="the compiled kernels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first hostile scene")
    parser.add_argument("--scenes", type=int, default=100, help="number of hostile scenes")
    parser.add_argument("--crowd", type=int, default=200_000, help="number of tiny Gaussians in one tile")
    parser.add_argument("--hostile-only", action="store_true", help="leave out the cases without a seed")
    options = parser.parse_args()
    # When a sanitizer aborts, the traceback shows the case.
    faulthandler.enable()
    os.environ["GENLANGSPLAT_ISA"] = options.instruction_set
    library.library_path = lambda name: options.path if name == options.instruction_set else None
    openmp_fork = library.openmp_fork
    library.openmp_fork = lambda: None
    torch.set_num_threads(max(THREADS))
    two_callers_at_once()
    every_allocation_fails_once()
    library.openmp_fork = openmp_fork
    library._load.cache_clear()
    for threads in () if options.hostile_only else THREADS:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        for case in CASES:
            case()
    every_allocation_fails_once()
    torch.set_num_threads(1)
    hostile_scenes(options.seed, options.scenes)
    torch.set_num_threads(max(THREADS))
    a_crowd_in_one_tile(options.crowd)
    if not options.hostile_only:
        a_crowd_on_one_pixel()


if __name__ == "__main__":
    main()
