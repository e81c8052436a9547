"""What the page gets of a scene: Gaussians in an order of its own, views, and small pictures."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genlangsplat_ns.language.settings import QuerySettings, SelectionSettings
from genlangsplat_ns.scene_io.splat_files import read_splats
from genlangsplat_ns.web.page_scene import (
    THUMBNAIL_SIDE,
    PageScene,
    describe_page,
    most_visible,
    thumbnail,
    with_degree,
)
from tests.scene.language_scenes import NUM_GAUSSIANS
from tests.scene_io.gaussian_fakes import make_gaussians
from tests.web.pages import page_scene


def described(page: PageScene, **settings: Any) -> dict[str, Any]:
    """The description of a scene, with the default settings."""
    return describe_page(page, QuerySettings(), SelectionSettings(), **settings)


def test_gaussians_that_cannot_be_drawn_are_left_out_and_a_mask_leads_back() -> None:
    scene = page_scene()
    scene.model.means.data[[3, 8]] = torch.nan
    page = PageScene.of(scene)
    assert len(page.rows) == NUM_GAUSSIANS - 2 and not page.in_model_order
    keep = np.zeros(len(page.rows), bool)
    keep[[0, 3, 597]] = True
    assert page.mask_of(np.packbits(keep).tobytes()).nonzero()[:, 0].tolist() == [0, 4, 599]


def test_the_splats_follow_the_order_of_the_page(tmp_path: Path) -> None:
    scene = page_scene(sh_degree=1)
    (tmp_path / "a.spz").write_bytes(PageScene(scene, torch.tensor([5, 2, 400])).splats())
    written = read_splats(tmp_path / "a.spz").gaussians
    assert torch.allclose(written.means, scene.field.means[[5, 2, 400]], atol=1e-5) and written.sh_degree == 1


def test_a_compact_page_has_each_of_the_most_visible_gaussians_once() -> None:
    scene = page_scene()
    weights = scene.field.opacities * scene.model.scales.exp().topk(2, dim=1).values.prod(dim=1)
    page = PageScene.compact(scene, 200)
    assert sorted(page.rows.tolist()) == weights.detach().topk(200).indices.sort().values.tolist()
    assert sorted(PageScene.compact(scene).rows.tolist()) == list(range(NUM_GAUSSIANS))


def test_thinning_keeps_what_is_large_and_opaque() -> None:
    gaussians = make_gaussians(3, 0)
    gaussians.scales[:] = torch.tensor([[-5.0, -5, -5], [-1, -1, -9], [-1, -9, -9]])
    gaussians.opacities[:] = 2.0
    assert most_visible(gaussians, 1).tolist() == [1]
    gaussians.opacities[1] = -20.0
    assert most_visible(gaussians, 2).tolist() == [0, 2]
    assert most_visible(gaussians, 5).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("has", "wanted", "kept"), [(3, 1, 1), (3, 0, 0), (1, 3, 1), (0, 1, 0)])
def test_harmonics_are_cut_at_a_degree(has: int, wanted: int, kept: int) -> None:
    gaussians = make_gaussians(4, has)
    cut = with_degree(gaussians, wanted)
    assert cut.sh_degree == kept
    assert torch.equal(cut.features_rest, gaussians.features_rest[:, : cut.features_rest.shape[1]])


def test_a_shared_page_tells_nothing_of_the_machine() -> None:
    page = PageScene.of(page_scene())
    shared = described(page, thumbnails=False)
    assert not shared["live"]
    assert "config" not in shared and "/nowhere" not in str(shared)
    assert [view["thumbnail"] for view in shared["views"]] == [None, None]
    live = described(page, config="RUN/config.yml")
    assert live["live"] and live["views"][1]["thumbnail"] == "thumbnails/0001.jpg"


def test_without_photographs_there_are_no_views_and_z_is_up() -> None:
    scene = page_scene()
    manager: Any = scene.datamanager
    manager.dataset.side_effect = lambda split: []
    found = described(PageScene.of(scene))
    assert found["views"] == [] and found["up"] == [0, 0, 1]


def test_cameras_that_lie_on_their_side_say_what_is_up() -> None:
    # The cameras of this scene look along -z, so their own up is y.
    assert described(PageScene.of(page_scene()))["up"] == pytest.approx([0, 1, 0])


def test_a_thumbnail_is_a_small_picture_with_the_shape_of_its_photograph() -> None:
    scene = page_scene()
    data = thumbnail(scene, scene.views()[0])
    picture = Image.open(BytesIO(data))
    assert picture.format == "JPEG" and picture.size == (THUMBNAIL_SIDE, round(THUMBNAIL_SIDE * 320 / 480))
    assert abs(np.asarray(picture).mean() - 200) < 2
