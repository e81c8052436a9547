"""Hostile scenes obey the laws of the rasterizer on every build; what cannot be drawn is refused by our error."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import compositing_weights, rasterization
from genlangsplat_ns.rasterization.inputs import empty
from genlangsplat_ns.rasterization.ssim import structural_similarity
from tests.rasterization.compilation import CHECKOUT
from tests.rasterization.gaussian_scenes import SmallScene, small_scene
from tests.rasterization.hostile_cases import a_crowd_in_one_tile
from tests.rasterization.hostile_scenes import check_laws, hostile_scene

pytestmark = pytest.mark.usefixtures("unwritten_memory_is_nan")


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("seed", range(12))
def test_a_hostile_scene_obeys_the_laws(seed: int) -> None:
    check_laws(hostile_scene(seed))


def test_hostile_scenes_of_the_seeds_are_hostile() -> None:
    scenes = [hostile_scene(seed) for seed in range(12)]
    assert sum(int(hostile.poisoned.sum()) for hostile in scenes) > 50
    assert any(hostile.scene.width == 0 for hostile in scenes)


@pytest.mark.usefixtures("instruction_set")
def test_a_crowd_of_tiny_gaussians_in_one_tile_obeys_the_laws() -> None:
    a_crowd_in_one_tile(20_000)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("length", [0.0, 1e-38, 1e-20, 1e20, 3e38])
def test_rotations_whose_length_squared_is_no_normal_number_are_skipped(length: float) -> None:
    """A square of infinity would leave no rotation, and a denormal one a wrong rotation."""
    scene = small_scene()
    quats = torch.nn.functional.normalize(scene.quats, dim=1) * length
    _, alphas, info = rasterization(**replace(scene, quats=quats).arguments())
    assert not info["radii"].any() and not alphas.any()


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("length", [1e-18, 1e18])
def test_rotations_of_other_lengths_draw_the_same(length: float) -> None:
    scene = small_scene()
    unit = torch.nn.functional.normalize(scene.quats, dim=1)
    expected, _, _ = rasterization(**replace(scene, quats=unit).arguments())
    image, _, _ = rasterization(**replace(scene, quats=unit * length).arguments())
    torch.testing.assert_close(image, expected, atol=1e-4, rtol=1e-4)


def refused(scene: SmallScene, message: str, **changes: object) -> None:
    """Asserts that rendering raises our error."""
    with pytest.raises(GenLangSplatError, match=message):
        rasterization(**{**scene.arguments(), **changes})


def test_a_view_matrix_without_inverse_is_named() -> None:
    scene = small_scene()
    refused(scene, "viewmat has no inverse", viewmats=torch.zeros(1, 4, 4))
    with pytest.raises(GenLangSplatError, match="viewmat has no inverse"):
        compositing_weights(scene.gaussians, replace(scene.view, viewmat=torch.zeros(4, 4)))


@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (46341, 46341), (2**31, 1), (1, 2**63)])
def test_images_with_more_pixels_than_32_bits_are_refused(width: int, height: int) -> None:
    refused(small_scene(), "pixels", width=width, height=height)


def test_more_gaussians_than_32_bits_are_refused_before_they_are_copied() -> None:
    refused(small_scene(), "Found 2147483648 Gaussians in means", means=torch.zeros(1, 3).expand(2**31, 3))


def test_arrays_larger_than_the_memory_are_named() -> None:
    scene = small_scene(count=2)
    weights = compositing_weights(scene.gaussians, scene.view)
    with pytest.raises(GenLangSplatError, match=r"no memory for an array of \(2, 1099511627776\); expected 8.8e"):
        weights.composite(torch.zeros(1, 1).expand(2, 2**40))
    with pytest.raises(GenLangSplatError, match="no memory for an array of"):
        empty(2**62, 2**62)


def test_sparse_tensors_are_named() -> None:
    refused(small_scene(), "means is torch.sparse_coo", means=small_scene().means.to_sparse())


def test_negated_views_are_read_with_their_sign() -> None:
    scene = small_scene(count=1)
    mirrored = torch.complex(torch.zeros(1), -scene.opacities).conj().imag
    assert mirrored.is_neg()
    image = rasterization(**{**scene.arguments(), "opacities": mirrored})[0]
    assert torch.equal(image, rasterization(**scene.arguments())[0])


@pytest.mark.parametrize(
    "fixed", [torch.rand(1, 3, 20, 20), torch.rand(1, 1, 40, 40), torch.rand(2, 3, 40, 40), torch.rand(3, 40, 40)]
)
def test_images_of_different_shapes_are_not_compared(fixed: Tensor) -> None:
    with pytest.raises(GenLangSplatError, match=r"shapes \(1, 3, 40, 40\)"):
        structural_similarity(torch.rand(1, 3, 40, 40), fixed)


LIMITED = """
import resource, sys, torch
from genlangsplat_ns.errors import GenLangSplatError
from tests.rasterization.gaussian_scenes import small_scene
from tests.rasterization.hostile_cases import _weighed
from genlangsplat_ns.rasterization import rasterization

torch.set_num_threads(2)
scene = small_scene(count=200_000, width=1024, height=1024, channels=16)
rasterization(**small_scene().arguments())
_weighed(small_scene(), False)
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
told = 0
for megabytes in (1, 8, 20, 40, 60, 80, 100, 130, 170, 230, 300):
    resource.setrlimit(resource.RLIMIT_AS, (pages + (megabytes << 20), resource.RLIM_INFINITY))
    for work in (lambda: rasterization(**scene.arguments()), lambda: _weighed(scene, False)):
        try:
            work()
        except GenLangSplatError as error:
            told += 1
            assert "no memory" in str(error) or "too little memory" in str(error), error
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
image = rasterization(**scene.arguments())[0]
assert bool(image.isfinite().all())
print("told", told)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_under_a_memory_limit_our_error_comes_and_the_next_call_is_unharmed() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) >= 5
