"""The order that keeps neighbors together."""

from __future__ import annotations

import numpy as np
import pytest

from genlangsplat_ns.scene_io.spatial_order import GROUP, spatial_order


def box_sizes(points: np.ndarray) -> np.ndarray:
    """The summed sides of the box of each group."""
    starts = np.arange(0, len(points), GROUP)
    return (np.maximum.reduceat(points, starts) - np.minimum.reduceat(points, starts)).sum(axis=1)


@pytest.mark.parametrize("count", [1, GROUP, GROUP + 1, 10 * GROUP + 7])
def test_every_point_comes_once(count: int) -> None:
    points = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    assert np.array_equal(np.sort(spatial_order(points)), np.arange(count))


def test_groups_fill_small_boxes() -> None:
    points = np.random.default_rng(0).uniform(size=(64 * GROUP, 3))
    # 64 cubes of a quarter of the side would have 0.75.
    assert box_sizes(points[spatial_order(points)]).mean() < 0.8


def test_far_points_do_not_widen_the_groups_of_the_others() -> None:
    points = np.random.default_rng(0).uniform(size=(16 * GROUP, 3))
    points[:GROUP] = 1000 * (points[:GROUP] - 0.5) + 600
    sizes = box_sizes(points[spatial_order(points)])
    assert np.sort(sizes)[-2] < 3


def test_points_at_one_place_and_points_at_all_scales_are_ordered() -> None:
    assert len(set(spatial_order(np.zeros((5 * GROUP, 3))))) == 5 * GROUP
    points = np.exp(np.linspace(-80, 80, 40 * GROUP))[:, None] * np.ones(3)
    assert box_sizes(points[spatial_order(points)])[0] < 1e-20
