"""The Ray part of the autoencoder benchmark: the same pictures in one process, on Ray, and with a killed worker."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.utils.ray import RaySettings
from pretrain.extract import Engine, extract_embeddings
from pretrain.frame_worker import FrameModels
from pretrain.scene_files import read_folders
from pretrain.sources import Frame, ImageFolderSource
from support.benchmark import Goal, Row
from support.tables import print_table

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


def extract_three_times(count: int) -> Row:
    """Extracts the same images in this process, on Ray, and on Ray with a worker that is killed half-way."""
    with tempfile.TemporaryDirectory() as folder:
        return _extract_three_times(Path(folder), count)


def _extract_three_times(root: Path, count: int) -> Row:
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
    names = {
        "local": "in one process",
        "ray": f"on Ray, {row['workers']} workers",
        "killed": f"on Ray, {row['workers_killed']} worker killed half-way",
    }
    print_table(
        ("extraction", "seconds", "frames lost", "equal to local, bit for bit"),
        (
            (words, f"{row['seconds'][name]:.1f}", str(row["frames_lost"][name]), str(row["equal"].get(name, "")))
            for name, words in names.items()
        ),
        title=f"{row['frames']} pictures, {row['rows']} regions, conse + watershed",
    )


def ray_goals(row: Row) -> list[Goal]:
    """The goals."""
    return [
        Goal("Ray, content equal to local", float(row["equal"]["ray"]), ">=", 1),
        Goal("Ray, content equal to local after a kill", float(row["equal"]["killed"]), ">=", 1),
        Goal("Ray, frames lost by a kill", row["frames_lost"]["killed"], "<=", 0),
    ]
