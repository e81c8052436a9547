"""A synthetic scene of a million Gaussians and hundreds of views, for the time and memory of lifting."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.average import LatentMean
from genlangsplat_ns.lifting.region_views import SMALL_SIDE
from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.rasterization import Gaussians, View, WeightCache, compositing_weights
from genlangsplat_ns.utils.console import CONSOLE
from support.benchmark import Row

WIDTH, HEIGHT = 988, 731
LATENT_DIM = 16
REGION_SIDES = (40, 90, 200)
"""Side of a region in pixels at each level."""
MISLABELED = 0.3
"""Share of regions with a random latent, so that robust lifting has work to do; the others all have the same latent."""
CACHE_BYTES = int(2e9)
"""Memory for compositing weights that are used more than once, as in a run by default."""


@dataclass(frozen=True)
class SyntheticViews:
    """Cameras on a circle around a shell of Gaussians, with square regions."""

    gaussians: Gaussians
    count: int
    shrink: int = 1
    cache: WeightCache = field(default_factory=lambda: WeightCache(0))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[RegionView]:
        return (self[number] for number in range(self.count))

    def __getitem__(self, number: int) -> RegionView:
        """Generates one view, the same each time."""
        width, height = WIDTH // self.shrink, HEIGHT // self.shrink
        focal = 0.9 * width
        K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
        angle = 2 * math.pi * number / self.count
        viewmat = torch.eye(4)
        viewmat[0, 0] = viewmat[2, 2] = math.cos(angle)
        viewmat[0, 2], viewmat[2, 0] = math.sin(angle), -math.sin(angle)
        viewmat[2, 3] = 3.0
        view = View(viewmat, K, width, height)
        weights = self.cache.get(number, lambda: compositing_weights(self.gaussians, view, half_precision=True))
        maps, count = [], 0
        for side in REGION_SIDES:
            columns = math.ceil(WIDTH / side)
            rows = torch.arange(height)[:, None] * self.shrink // side
            cells = rows * columns + torch.arange(width) * self.shrink // side
            maps.append(cells + count)
            count += columns * math.ceil(HEIGHT / side)
        generator = torch.Generator().manual_seed(number)
        latents = 0.1 * torch.randn(count, LATENT_DIM, generator=generator)
        latents[:, 0] += 1
        wrong = torch.rand(count, generator=generator) < MISLABELED
        latents[wrong] = torch.randn(count, LATENT_DIM, generator=generator)[wrong]
        latents = F.normalize(latents, dim=1)
        return RegionView(weights, torch.stack(maps).int(), latents)


def shell_of_gaussians(count: int) -> Gaussians:
    """Small Gaussians scattered about a sphere, most of them hidden from any one side, as in a scene."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(count, 3, generator=generator), dim=1)
    means = directions * (1 + 0.05 * torch.randn(count, 1, generator=generator))
    scales = torch.exp(0.4 * torch.randn(count, 3, generator=generator)) * 2.5 / math.sqrt(count)
    quats = F.normalize(torch.randn(count, 4, generator=generator), dim=1)
    return Gaussians(means, quats, scales, torch.sigmoid(1.5 * torch.randn(count, generator=generator) + 1))


def lift_large(num_gaussians: int, num_views: int, rounds: int) -> Row:
    """Lifts the scene with the default settings and a number of rounds, and records the time after every tenth view."""
    views = SyntheticViews(shell_of_gaussians(num_gaussians), num_views)
    shape = num_gaussians, len(LEVELS), LATENT_DIM
    start = time.perf_counter(), time.process_time()
    if rounds:
        shrink = max(1, WIDTH // SMALL_SIDE)
        small = SyntheticViews(views.gaussians, num_views, shrink, WeightCache(CACHE_BYTES))
        lift_latents(views, *shape, LiftSettings(robust_rounds=rounds), small_views=small)
        marks = []
    else:
        # The plain mean, written out to read the clock in between.
        accumulator, marks = LatentMean(*shape), []
        for number, view in enumerate(views, start=1):
            accumulator.add(view, torch.ones(len(view.latents)))
            if number % max(1, num_views // 10) == 0:
                marks.append((number, time.process_time() - start[1]))
                CONSOLE.print(f"{number} of {num_views} views, {marks[-1][1]:.0f} s of processor time")
        accumulator.solve()
    return {
        "part": "large",
        "gaussians": num_gaussians,
        "views": num_views,
        "rounds": rounds,
        "seconds": time.perf_counter() - start[0],
        "processor_seconds": time.process_time() - start[1],
        "marks": marks,
    }
