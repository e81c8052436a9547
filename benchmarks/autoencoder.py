"""Measures the training of autoencoders: quality on unseen vectors, speed, memory, and extraction on Ray.

    python benchmarks/autoencoder.py --data DATA --json autoencoder.json

DATA is the folder with `clip_embeddings` and `clip_text_embeddings_detic`; without it, quality is not measured. All
other data are generated in temporary folders. Every part that measures speed or peak memory runs in its own process.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from rich.table import Table
from torch import Tensor

from autoencoder_quality import measure_quality, print_quality, quality_bars
from autoencoder_speed import (
    RUNS,
    measure_streaming,
    measure_throughput,
    print_streaming,
    print_throughput,
    stream_epoch,
    streaming_bars,
    throughput_bars,
)
from common import Goal, in_own_process, options_of, worked, write_results
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.ray import RaySettings
from pretrain.extract import Engine, extract_embeddings
from pretrain.frame_worker import FrameModels
from pretrain.scene_files import read_folders
from pretrain.sources import Frame, ImageFolderSource

Row = dict[str, Any]

BATCHES = (64, 4096)
"""LangSplat's batch size, and one that uses a machine fully."""

PICTURE_SIZE = (120, 160)
WORKERS = 2


@dataclass(frozen=True)
class DeadlyPictures(ImageFolderSource):
    """A folder of images, of which one kills the process that reads it for the first time.

    Attributes:
        lethal: Key of that image; an empty string for none.
        death: File that records that the process was killed.
    """

    lethal: str = ""
    death: Path = Path()

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"]:
        """Reads an image, or kills the process."""
        if frame.key == self.lethal and not self.death.exists():
            self.death.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(frame)


def paint_pictures(root: Path, count: int) -> None:
    """Writes images of colored patches with noise, four per scene."""
    height, width = PICTURE_SIZE
    rows, columns = np.mgrid[:height, :width]
    for number in range(count):
        rng = np.random.default_rng(number)
        centers = rng.uniform(0, 1, (12, 2)) * [height, width]
        nearest = np.argmin([(rows - row) ** 2 + (columns - column) ** 2 for row, column in centers], axis=0)
        colors = rng.uniform(20, 235, (len(centers), 3))[nearest] + rng.normal(0, 4, (height, width, 3))
        path = root / f"scene{number // 4}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors.clip(0, 255).astype(np.uint8)).save(path)


def extract_three_times(root: Path, count: int) -> Row:
    """Extracts the same images in this process, on Ray, and on Ray with a worker that is killed half-way."""
    import ray

    # Ray gives each worker one thread, and the rounding of the classifier depends on the number of threads.
    torch.set_num_threads(1)
    paint_pictures(root / "pictures", count)
    source = DeadlyPictures(root / "pictures")
    frames = source.frames()
    lethal = DeadlyPictures(source.root, lethal=frames[count // 2].key, death=root / "death")
    models = FrameModels.from_settings(FeatureSettings(encoder="conse", masks="watershed"), "cpu")
    settings = RaySettings(num_workers=WORKERS, num_cpus=0.5, items_per_task=2)
    ray.init(num_cpus=WORKERS, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    seconds: dict[str, float] = {}
    contents: dict[str, dict[str, str]] = {}
    lost: dict[str, int] = {}
    for name, pictures in {"local": source, "ray": source, "killed": lethal}.items():
        start = time.perf_counter()
        engine: Engine = "local" if name == "local" else "ray"
        extract_embeddings(pictures, root / name, models, engine, settings)
        seconds[name] = time.perf_counter() - start
        files = read_folders([root / name])
        contents[name] = {file.scene: file.sha256 for file in files}
        lost[name] = len(frames) - sum(len(file.frames) for file in files)
        rows = sum(file.rows for file in files)
    ray.shutdown()
    return {
        "part": "ray",
        "frames": count,
        "rows": rows,
        "workers": WORKERS,
        "seconds": seconds,
        "equal": {name: contents["local"] == contents[name] for name in ("ray", "killed")},
        "frames_lost": lost,
        "workers_killed": int(lethal.death.exists()),
    }


def print_ray(row: Row) -> None:
    """Prints one row per extraction."""
    table = Table(
        "extraction",
        "seconds",
        "frames lost",
        "equal to local, bit for bit",
        title=f"{row['frames']} pictures, {row['rows']} regions, conse + watershed",
    )
    names = {
        "local": "in one process",
        "ray": f"on Ray, {row['workers']} workers",
        "killed": f"on Ray, {row['workers_killed']} worker killed half-way",
    }
    for name, words in names.items():
        equal = str(row["equal"][name]) if name in row["equal"] else ""
        table.add_row(words, f"{row['seconds'][name]:.1f}", str(row["frames_lost"][name]), equal)
    CONSOLE.print(table)


def ray_bars(row: Row) -> list[Goal]:
    """The goals."""
    return [
        Goal("Ray, content equal to local", float(row["equal"]["ray"]), ">=", 1),
        Goal("Ray, content equal to local after a kill", float(row["equal"]["killed"]), ">=", 1),
        Goal("Ray, frames lost by a kill", row["frames_lost"]["killed"], "<=", 0),
    ]


def work(arguments: list[str]) -> Row:
    """Runs one part in its own process."""
    kind, *rest = arguments
    row: Row = {}
    if kind == "quality":
        row = {"rows": measure_quality(Path(rest[0]), quick=rest[1] == "quick")}
    elif kind == "throughput":
        row = {"rates": RUNS[rest[0]](Path(rest[1]), int(rest[2]))}
    elif kind == "stream":
        row = stream_epoch(Path(rest[0]), int(rest[1]))
    elif kind == "ray":
        with tempfile.TemporaryDirectory() as folder:
            row = extract_three_times(Path(folder), int(rest[0]))
    return row


def run_parts(data: Path | None, quick: bool) -> tuple[list[Row], list[Goal]]:
    """Measures and prints each part, and returns all rows and goals."""
    rows: list[Row] = []
    goals: list[Goal] = []
    if data is None:
        CONSOLE.print("[yellow]Quality is left out: it needs real CLIP vectors; name their folder with --data.")
    else:
        CONSOLE.print("Measuring quality.")
        quality = in_own_process(__file__, "quality", str(data.resolve()), "quick" if quick else "full")["rows"]
        print_quality(quality)
        rows += quality
        goals += quality_bars(quality)
    throughput = measure_throughput(20_000 if quick else 200_000, BATCHES, repetitions=3)
    print_throughput(throughput)
    rows += throughput
    goals += throughput_bars(throughput)
    streaming = measure_streaming(300_000 if quick else 10_000_000, BATCHES[-1])
    if streaming is not None:
        print_streaming(streaming)
        rows.append(streaming)
        goals += streaming_bars(streaming)
    if find_spec("ray") is None:
        CONSOLE.print('[yellow]Ray is left out: it is not installed. pip install "genlangsplat-ns\\[ray]"')
    else:
        CONSOLE.print("Extracting on Ray.")
        spread_out = in_own_process(__file__, "ray", "8" if quick else "16")
        print_ray(spread_out)
        rows.append(spread_out)
        goals += ray_bars(spread_out)
    return rows, goals


def main() -> None:
    """Runs everything, or one part in its own process."""
    parser = options_of(__doc__, "fewer steps, seeds, rows and pictures")
    parser.add_argument("--data", type=Path, help="folder with real CLIP vectors; without it, quality is not measured")
    options = parser.parse_args()
    if worked(options, work):
        return
    rows, goals = run_parts(options.data, options.quick)
    write_results(options.json, rows, goals)


if __name__ == "__main__":
    main()
