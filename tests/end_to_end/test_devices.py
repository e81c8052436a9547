"""A short run on the CPU and, where there is one, on a card: training, resuming, lifting, and both query modes."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.lifting import training_views
from tests.end_to_end.conftest import make_config, train

STEPS = 120
"""Enough RGB steps for renders that show the scene."""

CARD = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=CARD)])
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory, quick_encoder: None) -> Iterator[Any]:
    """The trainer of a finished run on a device; the features need no model."""
    folder = tmp_path_factory.mktemp(request.param)
    data = build_gallery(folder / "scene", GallerySettings(num_views=10, width=96, height=72, num_points=1000))
    config = make_config(data, folder / "outputs", rgb_steps=STEPS, use_absgrad=True)
    config.pipeline.datamanager.encoder, config.pipeline.datamanager.masks = "conse", "watershed"
    config.machine.device_type = request.param
    yield train(config)


def test_the_latents_are_on_the_device_and_unit_vectors(trained: Any) -> None:
    model = trained.pipeline.model
    assert model.device.type == trained.config.machine.device_type == model.latents.device.type
    norms = model.latents.detach().norm(dim=-1)
    seen = norms > 0
    assert seen.float().mean() > 0.5 and torch.allclose(norms[seen], torch.ones_like(norms[seen]), atol=1e-5)


def test_an_image_resembles_its_photograph(trained: Any) -> None:
    scene = LanguageScene(trained.pipeline.model.eval(), trained.pipeline.datamanager)
    view = scene.views("train")[0]
    image = scene.render_rgb(view).cpu()
    assert (image - scene.image(view).float() / 255).abs().mean() < 0.15


def test_both_routes_of_lifting_give_the_same_latents(trained: Any) -> None:
    """On a card, gradients of renders; on the CPU, the compositing weights."""
    model = trained.pipeline.model
    views = training_views(model, trained.pipeline.datamanager)
    settings, shape = model.config.lifting, model.latents.shape
    lifted = lift_latents(views, *shape, settings, model.device)
    expected = lift_latents(views.to("cpu"), *shape, settings, "cpu")
    heavy = expected.mass > 0.1
    cosines = F.cosine_similarity(lifted.latents.cpu()[heavy], expected.latents[heavy], dim=-1)
    assert heavy.float().mean() > 0.2 and cosines.mean() > 0.999 and (cosines > 0.95).float().mean() > 0.99


def test_both_query_modes_answer_alike(trained: Any) -> None:
    scene = LanguageScene(trained.pipeline.model.eval(), trained.pipeline.datamanager)
    features = trained.pipeline.datamanager.language_features("train", 0)
    embeddings = F.normalize(features.embeddings.float(), dim=-1)
    query = EmbeddedQuery(TextQuery(("a region",)), embeddings[:1], embeddings[-4:])
    camera = scene.camera(scene.views("train")[0])
    splatted, scored = (scene.answer(query, camera, mode).answers[0].map for mode in ("gaussian", "rendered"))
    assert splatted.device.type == scored.device.type == "cpu" and splatted.shape == scored.shape == (72, 96)
    assert (splatted - scored).abs().mean() < 0.15 and float(scored.max()) > float(scored.min())


def test_a_run_resumes_on_its_device(trained: Any, tmp_path: Path) -> None:
    config = deepcopy(trained.config)
    config.load_dir, config.output_dir = trained.config.get_checkpoint_dir(), tmp_path
    # The method counts the steps before a resume, and the language phase is over: it is lifted again.
    config.max_num_iterations += 1
    config.pipeline.model.language_steps = 2
    resumed = train(config)
    model = resumed.pipeline.model
    assert model.in_language_phase and model.num_points == trained.pipeline.model.num_points
    assert torch.equal(model.means.cpu(), trained.pipeline.model.means.cpu())
    assert model.device.type == trained.config.machine.device_type and bool(model.latents.any())
