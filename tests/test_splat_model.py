"""The first Gaussians of a scene: seed points, their spacing and their colors."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.splat_model import SplatModel, SplatModelConfig

BOX = SceneBox(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))


def seeded(positions: Tensor, colors: Tensor, **settings: Any) -> SplatModel:
    """A model that starts from seed points."""
    config = SplatModelConfig(**settings)
    return config.setup(scene_box=BOX, num_train_data=1, metadata={}, seed_points=(positions, colors))


@pytest.fixture
def cloud(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random points with all shades."""
    shades = torch.arange(300, dtype=torch.uint8)[:, None].repeat(1, 3)
    return torch.from_numpy(rng.normal(size=(300, 3))), shades


def test_sizes_are_splatfacto_s_mean_distance_of_three_neighbors(cloud: tuple[Tensor, Tensor]) -> None:
    model = seeded(*cloud)
    assert torch.equal(model.means, cloud[0].float())
    distances, _ = model.k_nearest_sklearn(cloud[0].float(), 3)
    expected = torch.from_numpy(distances).mean(dim=1)
    torch.testing.assert_close(model.scales.exp(), expected[:, None].repeat(1, 3))
    torch.testing.assert_close(torch.sigmoid(model.opacities), torch.full((300, 1), 0.1))


@pytest.mark.parametrize("degree", [0, 3])
def test_colors_come_back_from_the_parameters(cloud: tuple[Tensor, Tensor], degree: int) -> None:
    model = seeded(*cloud, sh_degree=degree)
    colors = torch.sigmoid(model.features_dc) if degree == 0 else model.features_dc * 0.28209479177387814 + 0.5
    torch.testing.assert_close(colors, cloud[1] / 255, atol=0.5 / 255, rtol=0)
    # Logits of black and white stay small enough to learn.
    assert model.features_dc.abs().max() < 7


def test_many_seeds_leave_half_of_the_ceiling_for_densification_and_keep_their_colors(
    cloud: tuple[Tensor, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = seeded(*cloud, max_gaussians=100, sh_degree=0)
    assert "Started with 50 of 300 seed points" in caplog.text
    assert model.num_points == 50
    nearest = torch.cdist(model.means, cloud[0].float()).argmin(dim=1)
    assert torch.equal(model.means, cloud[0].float()[nearest])
    torch.testing.assert_close(torch.sigmoid(model.features_dc), cloud[1][nearest] / 255, atol=0.5 / 255, rtol=0)
    assert seeded(*cloud, max_gaussians=600).num_points == seeded(*cloud).num_points == 300


def test_repeated_and_infinite_points_do_not_break_the_start(cloud: tuple[Tensor, Tensor]) -> None:
    positions = torch.cat([cloud[0], torch.full((5_000, 3), 2.0), torch.full((1, 3), torch.inf)])
    model = seeded(positions, torch.zeros(len(positions), 3, dtype=torch.uint8))
    assert model.num_points == 301
    assert all(values.isfinite().all() for values in model.gauss_params.values())
    assert model.scales.exp().min() > 1e-3


def test_fewer_than_four_places_are_refused() -> None:
    positions = torch.eye(3).repeat(1_000, 1)
    with pytest.raises(GenLangSplatError, match="Found 3 distinct seed points, expected at least 4"):
        seeded(positions, torch.zeros(3_000, 3, dtype=torch.uint8))


def test_seeds_without_colors_get_random_ones(cloud: tuple[Tensor, Tensor]) -> None:
    model = seeded(cloud[0], torch.zeros(0, 3, dtype=torch.uint8), sh_degree=0)
    colors = torch.sigmoid(model.features_dc)
    assert colors.std() > 0.2
    assert (colors[:, 0] - colors[:, 1]).abs().max() > 0.2
