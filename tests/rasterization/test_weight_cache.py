"""The cache stays within its budget, and every view gets its own weights."""

from __future__ import annotations

import pytest

from genlangsplat_ns.rasterization import CompositingWeights, WeightCache, compositing_weights
from tests.rasterization.gaussian_scenes import small_scene


class Views:
    """Extracts the weights of numbered views and counts how often."""

    def __init__(self, count: int) -> None:
        self.scenes = [small_scene(seed=seed) for seed in range(count)]
        self.extracted = [0] * count

    def extract(self, view: int) -> CompositingWeights:
        self.extracted[view] += 1
        return compositing_weights(self.scenes[view].gaussians, self.scenes[view].view)


@pytest.mark.parametrize("room", [0, 2, 5])
def test_the_first_views_that_fit_are_kept_and_others_extracted_at_every_use(room: int) -> None:
    views = Views(5)
    nbytes = [views.extract(view).nbytes for view in range(5)]
    views.extracted = [0] * 5
    cache = WeightCache(sum(nbytes[:room]))
    for _ in range(3):
        for view in range(5):
            weights = cache.get(view, lambda view=view: views.extract(view))
            assert weights.num_entries == views.extract(view).num_entries
            views.extracted[view] -= 1
            assert cache.nbytes <= cache.budget
    assert views.extracted == [1] * room + [3] * (5 - room)
    assert (len(cache), cache.nbytes) == (room, sum(nbytes[:room]))


def test_a_small_view_still_fits_after_a_large_one_did_not() -> None:
    scenes = (small_scene(count=60_000, width=640, height=480), small_scene())
    large, small = (compositing_weights(scene.gaussians, scene.view) for scene in scenes)
    cache = WeightCache(large.nbytes - 1)
    assert cache.get("large", lambda: large) is large and len(cache) == 0
    assert cache.get("small", lambda: small) is small and len(cache) == 1
    assert cache.get("small", lambda: large) is small
