"""The demo's training: the lite method with fewer steps, which are enough for the small gallery."""

from __future__ import annotations

import gc
from copy import deepcopy
from pathlib import Path
from typing import Any

from genlangsplat_ns.config import gen_langsplat_lite
from genlangsplat_ns.demo.run import run_demo
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene_io.installed_methods import installed_methods_only

with installed_methods_only():
    from nerfstudio.scripts.train import train_loop

RGB_STEPS = 3_000
"""Steps of the RGB phase. Few are enough, because the gallery has seed points and no fine detail."""


def run_gallery_demo(output_dir: Path) -> dict[str, Any]:
    """Builds the gallery, trains it, queries it and writes the report; see `run_demo`."""
    return run_demo(output_dir, train_gallery, open_run)


def train_gallery(data: Path, output_dir: Path, rgb_steps: int = RGB_STEPS) -> Path:
    """Trains both phases into nerfstudio's run folder below `output_dir`, and returns the run's config.yml."""
    config = deepcopy(gen_langsplat_lite.config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir = output_dir
    config.experiment_name = "gallery"
    config.max_num_iterations = rgb_steps + 1  # The last step lifts the latents.
    # TensorBoard instead of the viewer, which would open a port. The demo evaluates after training.
    config.vis = "tensorboard"
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.max_num_iterations + 1
    config.set_timestamp()
    config.save_config()
    train_loop(local_rank=0, world_size=1, config=config)
    gc.collect()
    return config.get_base_dir() / "config.yml"
