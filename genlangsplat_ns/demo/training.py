"""The demo's training: the real lite method on the gallery, shortened to what so small a scene needs."""

from __future__ import annotations

import gc
from copy import deepcopy
from pathlib import Path

from nerfstudio.scripts.train import train_loop

from genlangsplat_ns.config import gen_langsplat_lite
from genlangsplat_ns.demo.run import run_demo
from genlangsplat_ns.run import open_run

RGB_STEPS = 3_000
"""The gallery comes with seed points and has no fine hair or leaves; one more step lifts the latents."""


def run_gallery_demo(output_dir: Path) -> None:
    """Builds the gallery, trains it, asks it texts and writes the report."""
    run_demo(output_dir, train_gallery, open_run)


def train_gallery(data: Path, output_dir: Path) -> Path:
    """Trains both phases and returns the run's config.yml.

    Args:
        data: The gallery's folder.
        output_dir: Where nerfstudio's run folder goes.
    """
    config = deepcopy(gen_langsplat_lite.config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir = output_dir
    config.experiment_name = "gallery"
    config.max_num_iterations = RGB_STEPS + 1
    # Tensorboard instead of the viewer: a demo opens no port. Evaluation comes at the end.
    config.vis = "tensorboard"
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.max_num_iterations + 1
    config.set_timestamp()
    config.save_config()
    train_loop(local_rank=0, world_size=1, config=config)
    gc.collect()
    return config.get_base_dir() / "config.yml"
