"""Trains the demo's gallery from seed points that take different shares of the limit of Gaussians.

    python benchmarks/seed_share.py --json seed_share.json

The gallery has far more seed points than Gaussians. Seeds beside the surfaces stand for those of real scans. Held-out
views are compared with their photographs after all steps of `gen-langsplat-lite`.
"""

from __future__ import annotations

import tempfile
import time
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import plyfile
import torch

from genlangsplat_ns import splat_model
from genlangsplat_ns.config import gen_langsplat_lite
from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery
from support.benchmark import Benchmark, Results, Row
from support.tables import print_table

SIDE = 320
QUICK_STEPS = 300


def move_seeds(path: Path, distance: float) -> None:
    """Moves the points of a PLY file by normally distributed distances."""
    vertices = plyfile.PlyData.read(str(path))["vertex"].data.copy()
    rng = np.random.default_rng(0)
    for axis in "xyz":
        vertices[axis] += rng.normal(0, distance, len(vertices))
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")]).write(str(path))


def train_with(data: Path, limit: int, share: float, seed: int, steps: int | None) -> Row:
    """Trains with seeds that take a share of the limit, and measures the held-out views.

    Args:
        data: Folder of the scene.
        limit: Limit of the number of Gaussians.
        share: Share of the limit.
        seed: Seed of the training.
        steps: Number of steps; None for all of the method.
    """
    splat_model.SEED_SHARE = share
    config = deepcopy(gen_langsplat_lite.config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir, config.experiment_name, config.timestamp = data, "runs", f"{limit}-{share}-{seed}"
    config.vis = "tensorboard"
    config.max_num_iterations = steps or config.max_num_iterations
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


@dataclass(frozen=True, kw_only=True)
class SeedShareBenchmark(Benchmark):
    """Quality of the demo's gallery for several shares of seed points."""

    limits: tuple[int, ...] = (20_000,)
    """Limits of the number of Gaussians."""
    shares: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Shares of the limit that seed points take."""
    points: int = 1_000_000
    """Number of seed points of the gallery."""
    distance: float = 0.02
    """Distance of seed points from the surfaces."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of the training."""
    quick: bool = False
    """Train with the first limit, share and seed only, for 300 steps."""

    def measure(self) -> Results:
        """Trains every combination."""
        combinations = list(product(self.limits, self.shares, self.seeds))[: 1 if self.quick else None]
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            build_gallery(data, GallerySettings(num_views=40, width=SIDE, height=240, num_points=self.points))
            move_seeds(data / "sparse_pc.ply", self.distance)
            for limit, share, seed in combinations:
                rows.append(train_with(data, limit, share, seed, QUICK_STEPS if self.quick else None))
        print_table(
            ("limit", "share", "seed", "start", "end", "PSNR", "SSIM", "s"),
            map(cells_of, rows),
            "Share of the seed points",
        )
        return rows, []


def cells_of(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    trained = f"{row['limit']:,}", f"{row['share']:g}", str(row["seed"])
    counts = f"{row['start']:,}", f"{row['end']:,}"
    return *trained, *counts, f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", f"{row['seconds']:.0f}"


if __name__ == "__main__":
    SeedShareBenchmark.main()
