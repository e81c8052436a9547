"""Masked pixels have no say in the language and in the metrics of a run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genlangsplat_ns.lifting.average import average_views
from genlangsplat_ns.scene.lifting import training_views
from tests.end_to_end.conftest import copy_scene, make_config, train
from tests.end_to_end.quick_extraction import rewrite

MASKED = np.s_[60:, 30:100]


def ride_along(scene: Path, rng: np.random.Generator) -> None:
    """Pastes the same noise into all photographs and masks it."""
    rider = rng.integers(0, 256, (36, 70, 3), dtype=np.uint8)
    (scene / "masks").mkdir()
    frames = json.loads((scene / "transforms.json").read_text())["frames"]
    for frame in frames:
        path = scene / frame["file_path"]
        pixels = np.array(Image.open(path).convert("RGB"))
        pixels[MASKED] = rider
        Image.fromarray(pixels).save(path)
        mask = np.full(pixels.shape, 255, np.uint8)
        mask[MASKED] = 0
        frame["mask_path"] = f"masks/{path.stem}.png"
        Image.fromarray(mask).save(scene / frame["mask_path"])
    rewrite(scene, frames=frames)


@pytest.fixture(scope="module")
def masked_run(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory, quick_encoder: None) -> Any:
    scene = copy_scene(tiny_scene, tmp_path_factory.mktemp("masked"))
    ride_along(scene, np.random.default_rng(0))
    shutil.rmtree(scene / "labels")
    return train(make_config(scene, scene.parent / "outputs"))


def test_no_target_is_below_a_mask(masked_run: Any) -> None:
    pipeline = masked_run.pipeline
    for split, index in pipeline.datamanager.all_views():
        features = pipeline.datamanager.language_features(split, index)
        _, valid = pipeline.model.language_targets(features)
        assert not bool(valid[MASKED].any())
        assert float((features.regions >= 0).float().mean()) > 0.7


@pytest.mark.parametrize(("row", "seen"), [(70.0, False), (20.0, True)])
def test_gaussians_seen_only_below_masks_have_no_latents(masked_run: Any, row: float, seen: bool) -> None:
    """Small Gaussians are moved in front of pixels of the first view, the only one that is lifted."""
    model, data = masked_run.pipeline.model, masked_run.pipeline.datamanager
    views = training_views(model, data)
    view = views.views[0].view
    pixels = torch.rand(model.num_points, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([50.0, 20.0])
    pixels += torch.tensor([40.0, row])
    rays = torch.cat([(pixels - view.K[:2, 2]) / view.K.diagonal()[:2], torch.ones(model.num_points, 1)], dim=1)
    to_world = torch.linalg.inv(view.viewmat)
    means = rays @ to_world[:3, :3].T + to_world[:3, 3]
    gaussians = replace(views.gaussians, means=means, scales=torch.full_like(means, 0.003))
    average = average_views([replace(views, gaussians=gaussians, cache=None)[0]], None, *model.latents.shape, "cpu")
    assert bool((average.sums[..., -1] > 0).any()) == seen


def test_metrics_do_not_depend_on_what_is_below_a_mask(masked_run: Any) -> None:
    pipeline = masked_run.pipeline
    pipeline.eval()
    camera, batch = pipeline.datamanager.fixed_indices_eval_dataloader[0]
    outputs = pipeline.model.get_outputs_for_camera(camera)
    other = {**batch, "image": batch["image"].clone()}
    other["image"][MASKED] = 255 - other["image"][MASKED]
    assert not torch.equal(other["image"], batch["image"])
    metrics, others = (pipeline.model.get_image_metrics_and_images(outputs, item)[0] for item in (batch, other))
    assert metrics == others
    assert pipeline.model.get_metrics_dict(outputs, batch)["psnr"] == metrics["psnr"]
    kept = batch["mask"][..., 0]
    errors = (outputs["rgb"] - batch["image"] / 255)[kept].square().mean()
    assert metrics["psnr"] == pytest.approx(float(-10 * errors.log10()), abs=1e-3)
    pipeline.train()


def test_reports_say_that_masked_pixels_do_not_count(masked_run: Any, tmp_path: Path) -> None:
    masked_run.pipeline.get_average_eval_image_metrics(output_path=tmp_path)
    details = json.loads((tmp_path / "language_metrics.json").read_text())
    assert details["note"].startswith("Masked pixels do not count")
