"""Thinning point clouds."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.spatial import cKDTree

from genlangsplat_ns.scene_io.thinning import distinct_points, evenly_thinned, usable_seeds


def wall_and_speckles(rng: np.random.Generator, dense: int = 40_000, sparse: int = 200) -> np.ndarray:
    """A densely scanned wall at x = 0, and few points in the room before it."""
    wall = np.column_stack([np.zeros(dense), rng.uniform(0, 1, (dense, 2))])
    return np.concatenate([wall, rng.uniform(1, 5, (sparse, 3))])


@pytest.mark.parametrize("limit", [1, 7, 500, 5_000, 40_199])
def test_exactly_the_limit_is_left_and_in_order(rng: np.random.Generator, limit: int) -> None:
    kept = evenly_thinned(wall_and_speckles(rng), limit)
    assert len(kept) == limit
    assert (np.diff(kept) > 0).all()


def test_a_cloud_within_the_limit_stays_whole(rng: np.random.Generator) -> None:
    assert evenly_thinned(rng.normal(size=(50, 3)), 50).tolist() == list(range(50))


def test_sparse_regions_stay_where_a_random_choice_would_lose_them(rng: np.random.Generator) -> None:
    cloud = wall_and_speckles(rng)
    kept = evenly_thinned(cloud, 2_000)
    assert (kept >= 40_000).sum() > 150
    # A random choice would keep ten of them. The wall stays covered as well.
    distances, _ = cKDTree(cloud[kept]).query(cloud)
    assert distances.max() < 0.2


def test_the_choice_is_the_same_in_every_run(rng: np.random.Generator) -> None:
    cloud = wall_and_speckles(rng)
    assert np.array_equal(evenly_thinned(cloud, 900), evenly_thinned(cloud, 900))
    assert not np.array_equal(evenly_thinned(cloud, 900), evenly_thinned(cloud, 900, seed=1))


@pytest.mark.parametrize("far", [1e3, 1e9, 1e30])
def test_far_points_do_not_coarsen_the_rest(rng: np.random.Generator, far: float) -> None:
    cloud = np.concatenate([rng.uniform(0, 1, (20_000, 3)), [[far, far, far], [-far, 0, 0]]])
    kept = evenly_thinned(cloud, 1_000)
    assert {20_000, 20_001} <= set(kept)
    assert cKDTree(cloud[kept]).query(cloud[:20_000])[0].max() < 0.2


def test_clouds_of_one_place_are_thinned_too(rng: np.random.Generator) -> None:
    same = np.full((5_000, 3), 7.0)
    assert len(evenly_thinned(same, 10)) == 10
    assert len(evenly_thinned(np.zeros((5_000, 3)), 10)) == 10
    assert 5_000 in evenly_thinned(np.concatenate([same, [[8.0, 7.0, 7.0]]]), 10)


def test_a_million_points_are_thinned(rng: np.random.Generator) -> None:
    cloud = rng.normal(size=(1_000_000, 3)).astype(np.float32)
    assert len(usable_seeds(cloud, 150_000)) == 150_000


def test_repeated_points_count_once() -> None:
    points = np.array([[1, 2, 3], [0.0, 0, 0], [1, 2, 3], [-0.0, 0, 0], [3, 2, 1]])
    assert distinct_points(points).tolist() == [0, 1, 4]


def test_seeds_that_cannot_be_used_are_counted(rng: np.random.Generator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cloud = rng.normal(size=(1_000, 3))
    cloud[:100], cloud[200, 1], cloud[201, 2] = cloud[0], np.nan, np.inf
    kept = usable_seeds(cloud, 500)
    assert len(kept) == 500 and np.isfinite(cloud[kept]).all()
    assert "2 of 1,000 seed points are dropped: NaN or infinity" in caplog.text
    assert "99 of 1,000 seed points are dropped: they repeat other points" in caplog.text
    assert "500 of 1,000 seed points" in caplog.text
    assert len(usable_seeds(cloud, None)) == 899
