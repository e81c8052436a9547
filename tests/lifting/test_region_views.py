"""Views from the feature store: at full and reduced resolution, with and without a cache of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.lifting.region_views import SMALL_SIDE
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.rasterization import WeightCache
from tests.lifting.stored_views import HEIGHT, WIDTH, stored_views


def test_every_pass_gives_the_views_in_order_with_the_latents_of_their_regions(tmp_path: Path) -> None:
    views = stored_views(tmp_path, count=3)
    for _ in range(2):
        loaded = list(views)
        assert [view.name for view in loaded] == [f"the training view {number}.png" for number in range(3)]
        for view, posed in zip(loaded, views.views, strict=True):
            features = views.store.load(posed.key)
            assert torch.equal(view.regions, features.regions)
            assert torch.equal(view.latents, views.autoencoder.encode(features.embeddings))
            assert (view.operator.width, view.operator.height) == (WIDTH, HEIGHT)
    assert [view.name for view in views.subset([1, 2])] == [view.name for view in loaded[1:]]


def test_cached_weights_give_the_same_views(tmp_path: Path) -> None:
    views = stored_views(tmp_path, count=3)
    kept = replace(views, cache=WeightCache(1 << 30))
    assert kept.cache is not None
    features = torch.rand(len(views.gaussians), 2)
    for _ in range(2):
        for view, other in zip(views, kept, strict=True):
            assert torch.equal(view.operator.composite(features), other.operator.composite(features))
        assert len(kept.cache) == 3


def test_cameras_move_with_the_gaussians(tmp_path: Path) -> None:
    """A cluster without cards lifts a scene from a card; `meta` stands for another device."""
    moved = stored_views(tmp_path, count=1).to("meta")
    camera = moved.views[0].view
    assert {moved.device.type, camera.viewmat.device.type, camera.K.device.type} == {"meta"}


def test_views_of_moderate_size_are_not_downscaled(tmp_path: Path) -> None:
    assert stored_views(tmp_path, count=1).small().downscale == 1


def test_large_views_are_downscaled(tmp_path: Path) -> None:
    """A downscaled pixel has the region of the middle pixel, and the camera is downscaled too."""
    width = 2 * SMALL_SIDE + 1
    views = stored_views(tmp_path, count=1, width=width, height=150)
    (whole,), (small,) = views, views.small()
    assert (small.operator.width, small.operator.height) == (SMALL_SIDE, 75)
    assert torch.equal(small.regions, whole.regions[:, 1::2, 1::2][:, :75, :SMALL_SIDE])
    colors = torch.rand(len(views.gaussians), 3)
    shrunk = whole.operator.composite(colors)[:150, : 2 * SMALL_SIDE].unflatten(0, (75, 2)).unflatten(2, (-1, 2))
    error = small.operator.composite(colors) - shrunk.mean(dim=(1, 3))
    assert float(error.abs().mean()) < 0.02


def test_region_weights_from_downscaled_views_lift_nearly_the_same(tmp_path: Path) -> None:
    views = stored_views(tmp_path, count=6, width=200, height=150)
    shape = len(views.gaussians), 3, 4
    whole, small = (
        lift_latents(views, *shape, LiftSettings(), small_views=some) for some in (views, replace(views, downscale=2))
    )
    heavy = whole.mass > 10
    assert float((whole.latents * small.latents).sum(dim=-1)[heavy].mean()) > 0.99


def test_a_view_missing_from_the_store_is_named(tmp_path: Path) -> None:
    views = stored_views(tmp_path, count=2)
    (views.store.folder / "view-1.safetensors").unlink()
    with pytest.raises(GenLangSplatError, match=r"view-1\.safetensors.*Extract"):
        list(views)
