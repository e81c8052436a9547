"""Long loads in one process: many lifts, many views, many queries, and whether the memory grows."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

PAGES = Path("/proc/self/statm")

BLOCKS = 20
"""Neighboring samples resemble each other, so the slope is fitted to the means of this many blocks."""

WARM_UP = 0.3
"""Share of the samples at the start that do not count: caches fill, and the allocator keeps what it was given."""

SIDE = 32
"""Pixels of the sides of the synthetic views."""


_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Returns free memory to the system; glibc keeps it otherwise, and then the memory grows in steps."""


def resident_kb() -> float:
    """The memory of this process in kilobytes, without what is free but not returned."""
    if _TRIM is not None:
        _TRIM(0)
    return int(PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e3


@dataclass(frozen=True)
class Slope:
    """The growth of the memory with every repetition, in kilobytes, and its 95 % confidence interval."""

    kb: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Slope:
        """Fits a line to the samples of the memory after each repetition, without the warm-up."""
        kept = np.asarray(samples[int(WARM_UP * len(samples)) :], dtype=float)
        blocks = np.array_split(np.arange(len(kept)), min(BLOCKS, len(kept)))
        if len(blocks) < 3:
            return cls(0.0, -math.inf, math.inf)
        times, means = (np.array([values[block].mean() for block in blocks]) for values in (np.arange(len(kept)), kept))
        line = stats.linregress(times, means)
        # Without any noise there is no error.
        error = 0.0 if math.isnan(line.stderr) else float(line.stderr)
        half = float(stats.t.ppf(0.975, len(blocks) - 2)) * error
        return cls(float(line.slope), float(line.slope) - half, float(line.slope) + half)

    def row(self) -> dict[str, float]:
        """The figures for a table."""
        return {"slope_kb": self.kb, "slope_low_kb": self.low, "slope_high_kb": self.high}


def repeated(work: Callable[[int], Any], count: int) -> tuple[list[float], list[float]]:
    """Repeats a piece of work; returns the seconds of each time and the memory after it."""
    # The figures themselves take no memory on the way.
    seconds, memory = np.zeros(count), np.zeros(count)
    for number in range(count):
        start = time.perf_counter()
        work(number)
        seconds[number] = time.perf_counter() - start
        if number % 10 == 0:
            gc.collect()
        memory[number] = resident_kb()
    return seconds.tolist(), memory.tolist()


def figures(part: str, seconds: list[float], memory: list[float]) -> dict[str, Any]:
    """Percentiles of the times in milliseconds, and the slope of the memory `per` repetition."""
    ordered = sorted(seconds)
    percentiles = {
        f"p{share}_ms": 1e3 * ordered[min(len(ordered) - 1, int(share / 100 * len(ordered)))] for share in (50, 95, 99)
    }
    growth = memory[-1] - statistics.median(memory[: max(1, len(memory) // 10)])
    slope = {"per": "repetition", **Slope.of(memory).row()}
    return {"part": part, "repetitions": len(seconds), **percentiles, "grown_kb": growth, **slope}


def lifts(count: int, seed: int) -> dict[str, Any]:
    """Lifts the same small scene many times, its memory included."""
    from genlangsplat_ns.lifting.memory_fit import fit_memory
    from genlangsplat_ns.lifting.memory_regions import MemoryRegions
    from genlangsplat_ns.lifting.robust import lift_latents
    from genlangsplat_ns.lifting.settings import LiftSettings
    from genlangsplat_ns.rasterization import WeightCache
    from tests.lifting.stored_views import stored_views

    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        views = stored_views(Path(folder))
        shape = len(views.gaussians), 3, 4
        first: list[Tensor] = []

        def lift(number: int) -> None:
            from dataclasses import replace

            cached = replace(views, cache=WeightCache(1 << 30))
            lifted = lift_latents(cached, *shape, LiftSettings(), small_views=cached.small(), with_consensus=True)
            assert lifted.region_consensus is not None
            names = [view.name for view in views.views]
            regions = MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights, names)
            fit_memory(regions, "tiny/1")
            first.extend([lifted.latents] if not first else [])
            assert torch.equal(lifted.latents, first[0]), f"lift {number} has other latents than the first"

        return figures("lifts", *repeated(lift, count))


class _Images(Sequence[tuple[str, Tensor, None]]):
    """Views of random tiles, each made when it is accessed; the memory is noted at each access."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.memory: list[float] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, Tensor, None]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        self.memory.append(resident_kb())
        rng = np.random.default_rng([self.seed, index])
        image = rng.integers(20, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        return f"{index:05d}.png", torch.from_numpy(np.ascontiguousarray(image)), None


def views(count: int, seed: int) -> list[dict[str, Any]]:
    """Extracts a synthetic scene of many views with a fake encoder, and lifts it."""
    from genlangsplat_ns.features.extract import extract_features
    from genlangsplat_ns.features.store import FeatureStore
    from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
    from genlangsplat_ns.lifting.region_views import PosedView, RegionViews
    from genlangsplat_ns.lifting.robust import lift_latents
    from genlangsplat_ns.lifting.settings import LiftSettings
    from genlangsplat_ns.rasterization import View
    from tests.features.fakes import DIM, MeanColorEncoder, TileMasks, open_store
    from tests.rasterization.gaussian_scenes import small_scene

    with tempfile.TemporaryDirectory() as folder:
        store, images = open_store(Path(folder)), _Images(count, seed)
        start = time.perf_counter()
        keys = extract_features(images, store, TileMasks, MeanColorEncoder)
        seconds = time.perf_counter() - start
        # A missing view is accessed twice: for its key, and for its features.
        rows = [figures("extraction", [seconds / count] * count, images.memory[count:])]
        scene = small_scene(width=SIDE, height=SIDE)
        torch.manual_seed(seed)
        autoencoder = Autoencoder(AutoencoderIdentity("tiny", MeanColorEncoder.identity, DIM, latent_dim=4))
        posed = []
        for number, key in enumerate(keys):
            turn, angle = torch.eye(4), 0.5 * math.sin(number)
            turn[0, 0] = turn[2, 2] = math.cos(angle)
            turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
            posed.append(PosedView(f"{number}.png", key, View(turn @ scene.viewmats[0], scene.Ks[0], SIDE, SIDE)))
        memory: list[float] = []

        class Watched(FeatureStore):
            def load(self, key: str) -> Any:
                memory.append(resident_kb())
                return super().load(key)

        watched = Watched(store.folder, store.identity)
        region_views = RegionViews(scene.gaussians, "classic", posed, watched, autoencoder.eval().requires_grad_(False))
        start = time.perf_counter()
        lifted = lift_latents(region_views, len(scene.gaussians), 3, 4, LiftSettings())
        assert bool(lifted.seen.any())
        seconds = time.perf_counter() - start
        return [*rows, figures("lifting", [seconds / len(memory)] * len(memory), memory)]


def queries(count: int, seed: int) -> dict[str, Any]:
    """Asks a small scene for many texts, each once."""
    from genlangsplat_ns.language.query import MAX_EMBEDDED, TextQuery, embed_texts
    from tests.scene.language_scenes import language_scene, memory_of_clouds, some_camera, two_clouds

    torch.manual_seed(seed)
    model = two_clouds()
    model.set_memory(memory_of_clouds(model))
    scene, camera = language_scene(model), some_camera()
    # Embeddings of the last texts are kept, so every new text takes the place of an old one only when that is full.
    embed_texts([f"before {number}" for number in range(MAX_EMBEDDED)], scene.encoder)

    def ask(number: int) -> None:
        text = "left" if number % 2 else f"thing {number}"
        answered = scene.answer(scene.embed(TextQuery((text,))), camera)
        assert len(answered.answers) == 1

    return figures("queries", *repeated(ask, count))
