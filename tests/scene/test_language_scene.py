"""Queries of a scene: both modes find the same object, in views and in 3D."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import SelectionSettings
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.runs import StoredRun
from tests.scene.language_scenes import NUM_GAUSSIANS, UNSEEN, language_scene, memory_of_clouds, some_camera, two_clouds


@pytest.fixture(scope="module", params=["autoencoder", "memory"])
def scene(request: pytest.FixtureRequest) -> LanguageScene:
    """The scene, decoded by the pre-trained autoencoder or by its memory."""
    model = two_clouds()
    if request.param == "memory":
        model.set_memory(memory_of_clouds(model))
    return language_scene(model)


@pytest.mark.parametrize("level", ["mean", "auto", "whole"])
@pytest.mark.parametrize("mode", ["gaussian", "rendered"])
def test_each_text_is_found_on_its_side(scene: LanguageScene, mode: str, level: str) -> None:
    query = scene.embed(TextQuery(("left", "right"), level=level))
    answered = scene.answer(query, some_camera(), mode)
    left, right = answered.answers
    assert answered.rgb.shape == (32, 48, 3) and left.map.shape == (32, 48)
    assert left.peak[0] < 24 <= right.peak[0]
    assert left.score > 0.9 and right.score > 0.9
    assert left.map[:, :20].mean() > left.map[:, 28:].mean()
    for point, side in zip(answered.points, (-1, 1), strict=True):
        assert point[0] * side > 0 and abs(point[2]) < 1, "the peak lies on the cloud"


@pytest.mark.parametrize(
    ("data", "experiment", "expected"),
    [
        ("fox/transforms.json", "gallery", "fox"),
        ("fox/data/transforms.json", "gallery", "gallery"),
        ("fox/data/transforms.json", None, "data"),
    ],
)
def test_the_title_names_the_data_unless_all_data_are_called_so(
    data: str, experiment: str | None, expected: str
) -> None:
    scene = language_scene(two_clouds())
    manager: Any = scene.datamanager
    manager.config = SimpleNamespace(dataparser=SimpleNamespace(data=Path("/nowhere") / data))
    scene.stored = StoredRun(Path("config.yml"), Path("step.ckpt"), experiment=experiment)
    assert scene.title == expected


def test_the_modes_agree_where_a_pixel_shows_one_object(scene: LanguageScene) -> None:
    query = scene.embed(TextQuery(("left",), level="whole"))
    gaussian, rendered = (scene.answer(query, some_camera(), mode).answers[0] for mode in ("gaussian", "rendered"))
    overlap = (gaussian.mask & rendered.mask).sum() / (gaussian.mask | rendered.mask).sum()
    assert overlap > 0.8


def test_results_convert_to_arrays(scene: LanguageScene) -> None:
    answer = scene.ask("left", scene.views("eval")[0])
    heat, mask = answer.map.numpy(), answer.mask.numpy()
    chosen = scene.select("left").keep.numpy()
    assert heat.dtype == np.float32 and mask.dtype == bool and chosen.shape == (NUM_GAUSSIANS,)


def test_a_selection_is_the_cloud_without_zero_latents(scene: LanguageScene) -> None:
    left, right = (scene.select(text, SelectionSettings(clean_up=False)) for text in ("left", "right"))
    half = NUM_GAUSSIANS // 2
    assert left.keep[:half].all() and not left.keep[half:].any()
    assert right.keep[half:-UNSEEN].all() and not right.keep[-UNSEEN:].any()
    assert (left | right).count == NUM_GAUSSIANS - UNSEEN and (left & right).count == 0


def test_the_3d_peak_is_a_gaussian_of_the_object(scene: LanguageScene) -> None:
    left, right = scene.field.find(scene.embed(TextQuery(("left", "right"))))
    assert left.peak[0] < 0 < right.peak[0] and left.score > 0.9
    assert not left.relevancy[-UNSEEN:].any()


@pytest.mark.parametrize("sh_degree", [0, 2])
def test_rendering_scores_with_the_colors_does_not_change_the_colors(sh_degree: int) -> None:
    model = two_clouds(sh_degree)
    scene, camera = language_scene(model), some_camera()
    query = scene.embed(TextQuery(("left", "right")))
    plain = model.render_splats(camera)
    outputs, relevancy = model.render_scores(camera, model.field.seen_scores(query))
    for name in ("rgb", "depth", "accumulation"):
        torch.testing.assert_close(outputs[name], plain[name], atol=1e-5, rtol=1e-5)
    scores = model.field.relevancy(query)[0]
    seen = (scores[:, :1] > 0).float()
    splatted = model.splat(model.geometry(), torch.cat([scores, seen], dim=1), model.view(camera), render_mode="RGB")[0]
    opacity = splatted[0, ..., 2:]
    expected = torch.where(opacity > 0.01, splatted[0, ..., :2] / opacity.clamp(min=0.01), 0.0)
    torch.testing.assert_close(relevancy, expected.clamp(max=1.0), atol=1e-4, rtol=1e-4)


def test_scores_follow_the_latents() -> None:
    model = two_clouds()
    own = language_scene(model)
    query = own.embed(TextQuery(("left",)))
    before = model.field.relevancy(query)[0]
    model.set_latents(LiftedLatents(model.latents.detach().flip(0), torch.ones(NUM_GAUSSIANS, 3)))
    assert not torch.equal(model.field.relevancy(query)[0], before)
