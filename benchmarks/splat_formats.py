"""Writes splats in every format, reads them again, and compares the pictures.

    python benchmarks/splat_formats.py --files point_cloud.ply plant.splat --run RUN/config.yml --json formats.json

Files are looked at from eight points around them, runs from their own views.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from genlangsplat_ns.rasterization import Gaussians, View, render
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.splat_files import WRITTEN, read_splats, write_splats
from support.benchmark import Benchmark, Goal, Results, Row
from support.tables import print_table

Writer = Literal["own", "gaussforge"]

SIDE = 320
NUM_VIEWS = 8
GOAL = 40.0
"""The smallest PSNR in dB."""


def views_around(gaussians: GaussianParameters) -> list[View]:
    """Views from a circle around the middle of a scene, at the distance that shows most of it."""
    center = gaussians.means.median(dim=0).values
    radius = float((gaussians.means - center).norm(dim=1).median())
    views = []
    for angle in torch.arange(NUM_VIEWS) * (2 * math.pi / NUM_VIEWS):
        eye = center + 1.8 * radius * torch.stack([angle.cos(), angle.new_tensor(-0.3), angle.sin()])
        forward = torch.nn.functional.normalize(center - eye, dim=0)
        right = torch.nn.functional.normalize(torch.linalg.cross(angle.new_tensor([0.0, 1.0, 0.0]), forward), dim=0)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        viewmat = torch.eye(4)
        viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ eye
        matrix = torch.tensor([[SIDE, 0, SIDE / 2], [0, SIDE, SIDE / 2], [0, 0, 1.0]])
        views.append(View(viewmat, matrix, SIDE, SIDE))
    return views


def picture(gaussians: GaussianParameters, view: View, mode: str) -> Tensor:
    """Renders Gaussians by the conventions of files of splats."""
    opacities = torch.sigmoid(gaussians.opacities).squeeze(-1)
    scene = Gaussians(gaussians.means, gaussians.quats, gaussians.scales.exp(), opacities)
    harmonics = torch.cat([gaussians.features_dc[:, None], gaussians.features_rest], dim=1)
    return render(scene, view, harmonics, sh_degree=gaussians.sh_degree, rasterize_mode=mode)[0][0].clamp(0, 1)


def write_with_gaussforge(path: Path, gaussians: GaussianParameters) -> None:
    """Writes a file with the library gaussforge, in the format of the file's ending."""
    import gaussforge

    values = {
        "positions": gaussians.means,
        "scales": gaussians.scales,
        "rotations": torch.nn.functional.normalize(gaussians.quats, dim=1),
        "alphas": gaussians.opacities,
        "colors": gaussians.features_dc,
        "sh": gaussians.features_rest,
    }
    scene: dict[str, Any] = {name: value.contiguous().numpy().tobytes() for name, value in values.items()}
    scene |= {
        "numPoints": len(gaussians),
        "extras": {},
        "meta": {"shDegree": gaussians.sh_degree, "sourceFormat": "ply"},
    }
    path.write_bytes(gaussforge.GaussForge().write(scene, path.name.partition(".")[2])["data"])


def rows_of(
    name: str, gaussians: GaussianParameters, views: Sequence[View], mode: str, writer: Writer = "own"
) -> Iterator[Row]:
    """Measures all formats with one scene and one writer; all files are read by this package."""
    originals = [picture(gaussians, view, mode) for view in views]
    with tempfile.TemporaryDirectory() as folder:
        for ending in WRITTEN:
            path = Path(folder) / f"scene{ending}"
            start = time.process_time()
            if writer == "own":
                write_splats(path, gaussians, antialiased=mode == "antialiased")
            else:
                write_with_gaussforge(path, gaussians)
            written = time.process_time()
            read = read_splats(path).gaussians
            seconds = {"write_s": written - start, "read_s": time.process_time() - written}
            errors = [
                float((picture(read, view, mode) - original).square().mean())
                for view, original in zip(views, originals, strict=True)
            ]
            psnr = -10 * np.log10(np.maximum(errors, 1e-12))
            counts = {"gaussians": len(gaussians), "degree": gaussians.sh_degree}
            quality = {"psnr_median": float(np.median(psnr)), "psnr_lowest": float(psnr.min())}
            size = {"megabytes": path.stat().st_size / 1e6}
            yield {"scene": name, "writer": writer, "format": ending, **counts, **size, **quality, **seconds}


@dataclass(frozen=True, kw_only=True)
class SplatFormatsBenchmark(Benchmark):
    """Losses, sizes and times of the formats that splats are written in."""

    files: tuple[Path, ...] = ()
    """Files of splats."""
    run: Path | None = None
    """The config.yml of a run."""
    gaussforge: bool = False
    """Also write with the library gaussforge (extra `dev`)."""
    quick: bool = False
    """Look at every scene once."""

    def measure(self) -> Results:
        """Measures every scene with every format."""
        scenes = []
        for path in self.files:
            file = read_splats(path)
            views = views_around(file.gaussians)[: 1 if self.quick else None]
            scenes.append((path.name, file.gaussians, views, "antialiased" if file.antialiased else "classic"))
        if self.run is not None:
            opened = open_run(self.run, photographs=True)
            count = len(opened.datamanager.train_dataset)
            indices = range(0, count, math.ceil(count / (1 if self.quick else NUM_VIEWS)))
            views = [opened.model.view(opened.datamanager.camera("train", index)).detach() for index in indices]
            gaussians = opened.model.splats(opened.model.drawable())
            scenes.append((self.run.parents[2].name, gaussians, views, opened.model.config.rasterize_mode))
        writers: tuple[Writer, ...] = ("own", "gaussforge") if self.gaussforge else ("own",)
        rows = [row for scene in scenes for writer in writers for row in rows_of(*scene, writer)]
        names = ("scene", "writer", "format", "Gaussians", "degree", "MB", "PSNR median", "lowest", "write s", "read s")
        print_table(names, map(cells_of, rows), "Written and read again")
        lossy = [row for row in rows if row["format"] != ".ply" and row["writer"] == "own"]
        return rows, [Goal(f"{row['scene']} as {row['format']}: PSNR", row["psnr_lowest"], ">=", GOAL) for row in lossy]


def cells_of(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    counts = f"{row['gaussians']:,}", str(row["degree"]), f"{row['megabytes']:.1f}"
    quality = f"{row['psnr_median']:.1f}", f"{row['psnr_lowest']:.1f}"
    return (
        row["scene"],
        row["writer"],
        row["format"],
        *counts,
        *quality,
        f"{row['write_s']:.2f}",
        f"{row['read_s']:.2f}",
    )


if __name__ == "__main__":
    SplatFormatsBenchmark.main()
