"""Trains `gen-langsplat` with a short schedule on one device."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from genlangsplat_ns.config import gen_langsplat, gen_langsplat_lite
from genlangsplat_ns.scene_io.installed_methods import installed_methods_only

with installed_methods_only():
    from nerfstudio.scripts.train import train_loop

RESOLUTION_SCHEDULE = 250
"""Steps until the resolution doubles, so that a short RGB phase reaches the full one."""


def short_config(data: Path, output: Path, name: str, rgb_steps: int, device: str, **model: Any) -> Any:
    """The settings of a run with embedded masks and encoder; on the CPU those of the lite method."""
    config = deepcopy((gen_langsplat if device.startswith("cuda") else gen_langsplat_lite).config)
    config.data = config.pipeline.datamanager.data = data
    config.pipeline.datamanager.encoder, config.pipeline.datamanager.masks = "conse", "watershed"
    config.output_dir, config.experiment_name = output, name
    config.machine.device_type = device
    # TensorBoard instead of the viewer, which would open a port.
    config.vis = "tensorboard"
    for key, value in {"resolution_schedule": RESOLUTION_SCHEDULE, **model}.items():
        setattr(config.pipeline.model, key, value)
    config.max_num_iterations = rgb_steps + config.pipeline.model.num_language_steps
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.max_num_iterations + 1
    config.set_timestamp()
    return config


def train(config: Any) -> Path:
    """Trains both phases, and returns the run's config.yml."""
    torch.manual_seed(0)
    config.save_config()
    train_loop(local_rank=0, world_size=1, config=config)
    path: Path = config.get_base_dir() / "config.yml"
    return path


def newest_run(folder: Path) -> Path:
    """The config.yml of the newest run below a folder.

    Raises:
        FileNotFoundError: There is none.
    """
    runs = sorted(folder.rglob("config.yml"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise FileNotFoundError(f"There is no run below {folder}.")
    return runs[-1]


def stage_costs(run: Path) -> dict[str, dict[str, float]]:
    """The costs of the stages of a run, from its report."""
    costs: dict[str, dict[str, float]] = json.loads((run.parent / "report.json").read_text())["costs"]["stages"]
    return costs
