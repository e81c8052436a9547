"""The fused similarity equals that of pytorch_msssim in value and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_msssim import ssim
from torch import Tensor

from genlangsplat_ns.rasterization.ssim import kept_similarity, structural_similarity


def images(height: int, width: int, channels: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two similar images in the memory layout of nerfstudio, viewed as (1, channels, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(height, width, channels, generator=generator)
    second = (0.6 * first + 0.4 * torch.rand(height, width, channels, generator=generator)).clamp(0, 1)
    return first.permute(2, 0, 1)[None], second.permute(2, 0, 1)[None]


@settings(max_examples=25, deadline=None)
@given(st.integers(11, 60), st.integers(11, 60), st.sampled_from([1, 3]), st.integers(0, 5))
def test_value_and_gradient_equal_those_of_pytorch_msssim(height: int, width: int, channels: int, seed: int) -> None:
    results = []
    for similarity in (structural_similarity, lambda a, b: ssim(a, b, data_range=1.0)):
        moving, fixed = images(height, width, channels, seed)
        moving = moving.clone().requires_grad_()
        value = similarity(moving, fixed)
        (3 * value).backward()
        results.append((value.detach(), moving.grad))
    (value, gradient), (expected_value, expected_gradient) = results
    assert torch.allclose(value, expected_value, atol=2e-6)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()


@pytest.mark.parametrize("size", [(40, 50), (11, 30), (8, 30)])
def test_the_similarity_of_all_pixels_is_the_usual_one(size: tuple[int, int]) -> None:
    moving, fixed = images(*size)
    found = kept_similarity(moving, fixed, torch.ones(size, dtype=torch.bool))
    assert found.item() == pytest.approx(structural_similarity(moving, fixed).item(), abs=2e-6)


def test_the_similarity_of_kept_pixels_ignores_the_others() -> None:
    moving, fixed = images(40, 50)
    kept = torch.ones(40, 50, dtype=torch.bool)
    kept[20:] = False
    found = kept_similarity(moving, fixed, kept)
    moving[..., 20:, :] = 17.0
    assert kept_similarity(moving, fixed, kept) == found
    # Equal black windows would raise the mean over all of them.
    fixed = fixed * kept
    assert found < structural_similarity(moving * kept, fixed) - 0.05
    assert found.item() == pytest.approx(structural_similarity(*images(40, 50)).item(), abs=0.03)


def test_a_image_is_most_similar_to_itself() -> None:
    image, other = images(40, 50)
    assert structural_similarity(image, image).item() == pytest.approx(1.0, abs=1e-5)
    assert structural_similarity(image, other) < 0.99


def test_flat_images_have_a_finite_gradient() -> None:
    moving = torch.zeros(1, 3, 20, 20, requires_grad=True)
    structural_similarity(moving, torch.zeros(1, 3, 20, 20)).backward()
    assert moving.grad is not None and bool(moving.grad.isfinite().all())


def test_threads_do_not_change_a_bit() -> None:
    moving, fixed = images(64, 64)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            image = moving.clone().requires_grad_()
            value = structural_similarity(image, fixed)
            value.backward()
            results.append((value.detach(), image.grad))
    finally:
        torch.set_num_threads(threads)
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_images_smaller_than_the_window_still_have_a_similarity() -> None:
    moving, fixed = images(8, 8)
    assert torch.allclose(structural_similarity(moving, fixed), ssim(moving, fixed, data_range=1.0))
