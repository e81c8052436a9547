"""Images: the relevancy scale is fixed, and the latent colors are fitted once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.visualize import LatentPca, relevancy_colors, relevancy_overlay


def test_relevancy_colors_do_not_depend_on_the_rest_of_the_image():
    low = relevancy_colors(torch.tensor([[0.5, 0.75]]))
    high = relevancy_colors(torch.tensor([[1.0, 0.75]]))
    torch.testing.assert_close(low[0, 1], high[0, 1])
    assert high[0, 0, 0] > high[0, 0, 2], "The top of turbo is red."
    torch.testing.assert_close(relevancy_colors(torch.tensor([[0.0]])), relevancy_colors(torch.tensor([[0.5]])))


def test_the_overlay_is_gray_up_to_one_half_and_colored_above():
    rgb = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    relevancy = torch.tensor([[0.0, 0.3, 0.5], [0.8, 0.9, 1.0]])
    overlay = relevancy_overlay(rgb, relevancy)
    assert overlay.shape == rgb.shape and overlay.min() >= 0 and overlay.max() <= 1
    assert (overlay[0] <= rgb[0].amax(dim=-1, keepdim=True)).all()
    colors = relevancy_colors(relevancy)
    assert ((overlay[1] - colors[1]).abs() <= (rgb[1] - colors[1]).abs().clamp(min=0.3)).all()


def clusters(count=300, dim=8):
    centers = F.normalize(torch.randn(4, dim, generator=torch.Generator().manual_seed(0)), dim=-1)
    noise = 0.02 * torch.randn(count, dim, generator=torch.Generator().manual_seed(1))
    return centers[torch.arange(count) % 4] + noise


def test_latent_colors_are_in_range_and_distinguish_clusters():
    latents = clusters()
    colors = LatentPca.fit(latents).apply(latents.reshape(15, 20, 8)).reshape(-1, 3)
    assert colors.min() >= 0 and colors.max() <= 1
    means = torch.stack([colors[i::4].mean(dim=0) for i in range(4)])
    assert torch.pdist(means).min() > 3 * max(colors[i::4].std(dim=0).max() for i in range(4))


def test_a_fitted_basis_colors_a_part_as_it_colors_the_whole():
    latents = clusters()
    pca = LatentPca.fit(latents)
    torch.testing.assert_close(pca.apply(latents)[10:20], pca.apply(latents[10:20]))
    torch.testing.assert_close(pca.apply(latents), pca.apply(0.2 * latents))


def test_the_basis_does_not_depend_on_the_order_of_the_latents():
    latents = clusters()
    torch.testing.assert_close(LatentPca.fit(latents).basis, LatentPca.fit(latents.flip(0)).basis, atol=1e-4, rtol=1e-4)


def test_zero_latents_are_black_and_ignored_by_the_fit():
    latents = clusters()
    padded = torch.cat([latents, torch.zeros(5000, 8)])
    torch.testing.assert_close(LatentPca.fit(padded).mean, LatentPca.fit(latents).mean)
    assert (LatentPca.fit(padded).apply(padded)[-5000:] == 0).all()


def test_two_latent_dimensions_and_a_constant_scene_still_give_colors():
    assert LatentPca.fit(clusters(dim=2)).apply(clusters(dim=2)).shape == (300, 3)
    constant = torch.ones(10, 8)
    assert torch.isfinite(LatentPca.fit(constant).apply(constant)).all()


def test_a_scene_without_latents_is_refused():
    with pytest.raises(GenLangSplatError, match="language phase"):
        LatentPca.fit(torch.zeros(10, 8))
