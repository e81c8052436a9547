"""The store part of the extraction benchmark: the loss from kills, and the size of a large scene."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genlangsplat_ns.features.encoders import ConSEEncoder, encoder_embedding_dim, encoder_identity
from genlangsplat_ns.features.extract import extract_features
from genlangsplat_ns.features.masks import load_mask_generator, mask_settings
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.progress import track
from support.benchmark import Row
from support.extraction_models import HEIGHT, WIDTH, read_images
from support.processes import start_process


def embedded_store(root: Path) -> FeatureStore:
    """The store of the embedded encoder and masks."""
    identity = StoreIdentity(
        "conse",
        encoder_identity("conse"),
        encoder_embedding_dim("conse"),
        "watershed",
        mask_settings("watershed"),
        LEVELS,
    )
    return FeatureStore.open(root, identity)


def extract_logged(root: Path, folder: Path | None, count: int) -> None:
    """Extracts into a store and writes a line when the encoder starts a view."""

    class LoggedEncoder(ConSEEncoder):
        def encode_regions(self, image: torch.Tensor, masks: ViewMasks) -> torch.Tensor:
            with (root / "log").open("a") as log:
                log.write(f"{int(image.long().sum())}\n")
            return super().encode_regions(image, masks)

    views = [(name, image, None) for name, image in read_images(folder, count)]
    extract_features(views, embedded_store(root), lambda: load_mask_generator("watershed"), LoggedEncoder)


def measure_kills(folder: Path | None, count: int, kills: int) -> Row:
    """Kills an extraction repeatedly at random moments after it has started, then lets it finish."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as quiet, tempfile.TemporaryDirectory() as disturbed:
        start_process(extract_logged, Path(quiet), folder, count).join()
        log = Path(disturbed) / "log"
        log.touch()
        most_redone = done = 0
        for _ in track(range(kills), "Killing extractions"):
            before = log.read_text().split()
            process = start_process(extract_logged, Path(disturbed), folder, count)
            while process.is_alive() and log.stat().st_size == sum(len(line) + 1 for line in before):
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.6))
            if process.is_alive():
                process.kill()
                done += 1
            process.join()
            begun = log.read_text().split()[len(before) :]
            most_redone = max(most_redone, len(set(begun) & set(before)))
        start_process(extract_logged, Path(disturbed), folder, count).join()
        first, second = (files_of(embedded_store(Path(root)).folder) for root in (quiet, disturbed))
        return {
            "part": "kill -9",
            "views": len(first) - 1,
            "kills": done,
            "most_views_redone_by_one_resume": most_redone,
            "views_begun": len(log.read_text().split()),
            "equal_byte_for_byte": first == second,
        }


def files_of(folder: Path) -> dict[str, bytes]:
    """Name and content of every file of a store, except its lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


class LargeViews(Sequence[tuple[str, torch.Tensor, None]]):
    """Views of LERF's size that are generated when they are read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        image = np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        return f"{index:05d}.jpg", torch.from_numpy(image), None


class WavyMasks:
    """Four hundred regions per view with curved borders, different in each view."""

    name, settings = "wavy", {}

    def __init__(self) -> None:
        from scipy.spatial import cKDTree

        rng = np.random.default_rng(0)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        waves = np.stack([12 * np.sin(columns / 17 + rows / 29), 12 * np.cos(rows / 13 - columns / 31)], axis=-1)
        pixels = (np.stack([rows, columns], axis=-1) + waves).reshape(-1, 2)
        counts = (200, 133, 67)
        trees = [cKDTree(rng.uniform(0, 1, (count, 2)) * [HEIGHT, WIDTH]) for count in counts]
        self.levels = np.stack([tree.query(pixels)[1].reshape(HEIGHT, WIDTH) for tree in trees]).astype(np.int32)

    def generate(self, image: torch.Tensor) -> ViewMasks:
        """Shifts the regions depending on the image's first pixel."""
        return ViewMasks.from_ids(np.roll(self.levels, (int(image[0, 0, 0]), int(image[0, 0, 1])), axis=(1, 2)))


class RandomEncoder:
    """Unit vectors of CLIP's width."""

    name, identity, embedding_dim = "random", "random/1", 512

    def encode_regions(self, image: torch.Tensor, masks: ViewMasks) -> torch.Tensor:
        """One row per mask."""
        generator = torch.Generator().manual_seed(int(image.long().sum()))
        return torch.nn.functional.normalize(torch.randn(len(masks), 512, generator=generator), dim=-1)


def weigh_store(count: int) -> Row:
    """Extracts a large scene with stand-ins for the models, which leaves the memory and disk of the store."""
    identity = StoreIdentity("random", "random/1", 512, "wavy", {}, LEVELS)
    with tempfile.TemporaryDirectory() as root:
        store = FeatureStore.open(Path(root), identity)
        start = time.perf_counter()
        extract_features(LargeViews(count), store, WavyMasks, RandomEncoder)
        seconds = time.perf_counter() - start
        megabytes = sum(path.stat().st_size for path in store.folder.iterdir()) / 1e6
    return {"part": "store", "views": count, "regions": 400, "megabytes": megabytes, "seconds": seconds}
