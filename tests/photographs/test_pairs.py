"""Which photographs are compared with each other."""

from __future__ import annotations

import numpy as np

from genlangsplat_ns.photographs.pairs import exhaustive_pairs, in_tiles, sequential_pairs, spatial_pairs
from genlangsplat_ns.photographs.similar import similar_pairs


def test_all_pairs() -> None:
    assert exhaustive_pairs(3) == {(0, 1), (0, 2), (1, 2)}


def test_neighbors_are_near_and_ever_further_away() -> None:
    steps = {second for first, second in sequential_pairs(2000) if first == 0}
    assert steps == {*range(1, 11), 16, 32, 64, 128, 256, 512}


def test_neighbors_by_position_without_those_whose_position_is_unknown() -> None:
    east = [(0.0, 0.001 * index) for index in range(60)]
    pairs = spatial_pairs([None, *east])
    assert all(first > 0 and second - first <= 20 for first, second in pairs)
    assert {(1, 2), (59, 60)} <= pairs
    assert spatial_pairs([None, (1.0, 1.0), None]) == set()


def test_degrees_of_longitude_are_shorter_in_the_north() -> None:
    # At 80 degrees, 0.1 degrees of longitude are 0.017 of latitude.
    north = [(80.05, 0.0001 * index) for index in range(25)]
    east = [(80.0, 0.1 + 0.0001 * index) for index in range(25)]
    partners = {second for first, second in spatial_pairs([(80.0, 0.0), *north, *east]) if first == 0}
    assert len(partners) == 20 and min(partners) > 25


def test_tiles_cover_all_pairs_with_few_photographs_each() -> None:
    pairs = exhaustive_pairs(50)
    tiles = in_tiles(pairs)
    assert sorted(pair for tile in tiles for pair in tile) == sorted(pairs)
    assert max(len({index for pair in tile for index in pair}) for tile in tiles) <= 32


def test_similar_photographs_share_features() -> None:
    generator = np.random.default_rng(0)
    places = generator.integers(0, 255, (5, 100, 128))
    descriptors = [
        (places[index % 5] + generator.integers(-9, 9, (100, 128))).clip(0, 255).astype(np.uint8)
        for index in range(130)
    ]
    pairs = similar_pairs(descriptors)
    assert np.mean([first % 5 == second % 5 for first, second in pairs]) > 0.95


def test_photographs_without_features_are_similar_to_none() -> None:
    some, none = np.random.default_rng(0).integers(0, 255, (9, 128), dtype=np.uint8), np.zeros((0, 128), np.uint8)
    assert similar_pairs([some, none, some]) == {(0, 2)}
    assert similar_pairs([none, some]) == set()
