"""Trains the demo's gallery from seed points that take different shares of the limit of Gaussians.

The gallery has far more seed points than Gaussians. Seeds beside the surfaces stand for those of real scans. Held-out
views are compared with their photographs after all steps of `gen-langsplat-lite`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import torch
from rich.table import Table

from common import write_results
from genlangsplat_ns import splat_model
from genlangsplat_ns.config import gen_langsplat_lite
from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery
from genlangsplat_ns.utils.console import CONSOLE

SIDE = 320


def move_seeds(path: Path, distance: float) -> None:
    """Moves the points of a PLY file by normally distributed distances."""
    vertices = plyfile.PlyData.read(str(path))["vertex"].data.copy()
    rng = np.random.default_rng(0)
    for axis in "xyz":
        vertices[axis] += rng.normal(0, distance, len(vertices))
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")]).write(str(path))


def measure(data: Path, limit: int, share: float, seed: int) -> dict[str, Any]:
    """Trains with seeds that take a share of the limit, and measures the held-out views."""
    splat_model.SEED_SHARE = share
    config = deepcopy(gen_langsplat_lite.config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir, config.experiment_name, config.timestamp = data, "runs", f"{limit}-{share}-{seed}"
    config.vis = "tensorboard"
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.max_num_iterations + 1
    config.pipeline.datamanager.max_image_side = SIDE
    config.pipeline.datamanager.levels = ("whole",)
    config.pipeline.model.max_gaussians = limit
    torch.manual_seed(seed)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    started, before = trainer.pipeline.model.num_points, time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - before
    metrics = trainer.pipeline.get_average_eval_image_metrics()
    row = {"limit": limit, "share": share, "seed": seed, "start": started, "end": trainer.pipeline.model.num_points}
    return {**row, "seconds": seconds, "psnr": metrics["psnr"], "ssim": metrics["ssim"]}


def main() -> None:
    """Prints one row per limit and share, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", type=int, nargs="+", default=[20_000])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--points", type=int, default=1_000_000, help="number of seed points of the gallery")
    parser.add_argument("--distance", type=float, default=0.02, help="distance of seed points from the surfaces")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the training")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = Table("limit", "share", "seed", "start", "end", "PSNR", "SSIM", "s", title="Share of the seed points")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        build_gallery(data, GallerySettings(num_views=40, width=SIDE, height=240, num_points=options.points))
        move_seeds(data / "sparse_pc.ply", options.distance)
        for limit in options.limits:
            for share in options.shares:
                for seed in options.seeds:
                    row = measure(data, limit, share, seed)
                    rows.append(row)
                    table.add_row(
                        f"{limit:,}",
                        f"{share:g}",
                        str(seed),
                        f"{row['start']:,}",
                        f"{row['end']:,}",
                        f"{row['psnr']:.2f}",
                        f"{row['ssim']:.3f}",
                        f"{row['seconds']:.0f}",
                    )
    CONSOLE.print(table)
    write_results(options.json, rows, [])


if __name__ == "__main__":
    main()
