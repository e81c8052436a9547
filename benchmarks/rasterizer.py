"""Times the CPU rasterizer against its twin in plain torch, on points of a real scene.

The scene is the Mip-NeRF 360 garden's sparse points as gsplat's tests use them, with made-up shapes and opacities:
`--garden FILE` names gsplat's `test_garden.npz`. Without the file a synthetic scene of the same size stands in.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from scipy.spatial import cKDTree
from torch import Tensor

from common import Bar, machine, write_results
from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.rasterization import compositing_weights, library, rasterization, reference

GARDEN = Path(__file__).parents[2] / "shared" / "data" / "gsplat_garden" / "test_garden.npz"
SPEEDUP_BAR = 50.0
"""How many times faster than the twin both passes are to be at full size."""


@dataclass(frozen=True)
class BenchmarkScene:
    """Gaussians and one camera."""

    source: str
    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmat: Tensor
    K: Tensor
    width: int
    height: int

    @property
    def geometry(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.means, self.quats, self.scales, self.opacities


def load_scene(garden: Path, shrink: int) -> BenchmarkScene:
    """Points within two units of the origin, sized by their nearest neighbours; the image `shrink` times smaller."""
    random = np.random.default_rng(0)
    if garden.is_file():
        data = np.load(garden)
        points, colors = data["means3d"], data["colors"] / 255.0
        viewmat, K, width, height = data["viewmats"][0], data["Ks"][0], int(data["width"]), int(data["height"])
        kept = (np.abs(points) <= 2).all(axis=1)
        points, colors, source = points[kept], colors[kept], garden.name
    else:
        CONSOLE.print(f"[yellow]{garden} is not there: timing a synthetic scene of the same size instead.")
        points, colors = random.normal(0, 0.6, (111_785, 3)), random.random((111_785, 3))
        viewmat, width, height = np.eye(4), 648, 420
        viewmat[2, 3] = 2.5
        K = np.array([[480.0, 0.0, width / 2], [0.0, 480.0, height / 2], [0.0, 0.0, 1.0]])
        source = "synthetic"
    spacing = cKDTree(points).query(points, k=4)[0][:, 1:].mean(axis=1)
    count = len(points)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    return BenchmarkScene(
        source=source,
        means=tensor(points),
        quats=tensor(random.normal(size=(count, 4))),
        scales=tensor(spacing[:, None] * random.lognormal(0, 0.5, (count, 3))),
        opacities=tensor(random.uniform(0.05, 0.99, count)),
        colors=tensor(colors),
        viewmat=tensor(viewmat),
        K=tensor(K * np.array([[1 / shrink], [1 / shrink], [1.0]])),
        width=width // shrink,
        height=height // shrink,
    )


@dataclass(frozen=True)
class Timing:
    """Milliseconds of every repetition: by the clock, and of processor time over all threads."""

    name: str
    wall: list[float]
    processor: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    def row(self) -> dict[str, object]:
        return {
            "name": self.name,
            "median_ms": self.median,
            "min_ms": min(self.wall),
            "max_ms": max(self.wall),
            "processor_ms": statistics.median(self.processor),
            "repetitions": len(self.wall),
        }


class Stopwatch:
    """Adds up the time spent inside `with` blocks."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *unused: object) -> None:
        self.wall += 1e3 * (time.perf_counter() - self._start[0])
        self.processor += 1e3 * (time.process_time() - self._start[1])


def repeat(name: str, repetitions: int, work: Callable[[], object]) -> Timing:
    """Times `work`, after one call that is not counted."""
    work()
    watches = [Stopwatch() for _ in range(repetitions)]
    for watch in watches:
        with watch:
            work()
    return Timing(name, [watch.wall for watch in watches], [watch.processor for watch in watches])


def render(scene: BenchmarkScene, leaves: list[Tensor], absgrad: bool = False) -> Tensor:
    """The picture of our rasterizer."""
    means, quats, scales, opacities, features = leaves
    camera = (scene.viewmat[None], scene.K[None], scene.width, scene.height)
    return rasterization(means, quats, scales, opacities, features, *camera, absgrad=absgrad)[0]


def leaves_of(scene: BenchmarkScene, channels: int) -> list[Tensor]:
    """Parameters that want a gradient, with as many channels of color."""
    features = scene.colors
    if channels != 3:
        features = torch.rand(len(scene.means), channels, generator=torch.Generator().manual_seed(0))
    return [tensor.clone().requires_grad_() for tensor in (*scene.geometry, features)]


def time_ours(scene: BenchmarkScene, channels: int, repetitions: int) -> list[Timing]:
    """Forward passes as training runs them, backward passes to all parameters, and to the features alone."""
    leaves = leaves_of(scene, channels)
    name = f"ours, {channels} channels"
    timings = [repeat(f"{name}, forward", repetitions, lambda: render(scene, leaves))]
    for title, absgrad in (("backward", False), ("backward with absgrad", True)):
        image = render(scene, leaves, absgrad)
        gradient = torch.ones_like(image)
        timings.append(
            repeat(
                f"{name}, {title}",
                repetitions,
                lambda image=image, gradient=gradient: torch.autograd.grad(image, leaves, gradient, retain_graph=True),
            )
        )
    image = render(scene, [*(leaf.detach() for leaf in leaves[:4]), leaves[4]])
    gradient = torch.ones_like(image)
    work = lambda: torch.autograd.grad(image, leaves[4], gradient, retain_graph=True)  # noqa: E731
    timings.append(repeat(f"{name}, backward to features", repetitions, work))
    return timings


def reference_pass(scene: BenchmarkScene, forward: Stopwatch, backward: Stopwatch) -> list[Tensor]:
    """One pass of the twin forward and back, tile by tile: the graph of all tiles at once would fill the memory."""
    leaves = leaves_of(scene, 3)
    with forward:
        splats = reference.project(*leaves[:3], scene.viewmat, scene.K, scene.width, scene.height)
        tiles = list(reference.TileGrid.of(splats, scene.width, scene.height))
        members = torch.cat([tile[2] for tile in tiles])
        gathered = [tensor[members] for tensor in (splats.means2d, splats.conics, leaves[3], leaves[4])]
        sizes = [len(tile[2]) for tile in tiles]
        parts = list(zip(*(tensor.detach().split(sizes) for tensor in gathered), strict=True))
        parts = [[part.requires_grad_() for part in tile] for tile in parts]
    for (rows, columns, _), tile in zip(tiles, parts, strict=True):
        with forward:
            image = reference.tile_weights(rows, columns, *tile[:3]) @ tile[3]
        with backward:
            image.backward(torch.ones_like(image))
    with backward:
        gradients = [torch.cat([tile[k].grad for tile in parts]) for k in range(4)]
        return list(torch.autograd.grad(gathered, leaves, gradients))


def time_reference(scene: BenchmarkScene, repetitions: int) -> tuple[Timing, Timing]:
    """The twin's passes with three channels."""
    watches = [(Stopwatch(), Stopwatch()) for _ in range(repetitions)]
    for forward, backward in watches:
        gradients = reference_pass(scene, forward, backward)
    ours = leaves_of(scene, 3)
    expected = torch.autograd.grad(render(scene, ours).sum(), ours)
    for gradient, wanted in zip(gradients, expected, strict=True):
        # What is timed must be the same work.
        if not (gradient - wanted).norm() <= 1e-2 * wanted.norm():
            raise AssertionError("the twin and the rasterizer disagree: the times cannot be compared")
    names = ("torch twin, 3 channels, forward", "torch twin, 3 channels, backward")
    forward, backward = (
        Timing(name, [pair[k].wall for pair in watches], [pair[k].processor for pair in watches])
        for k, name in enumerate(names)
    )
    return forward, backward


def time_weights(scene: BenchmarkScene, repetitions: int) -> list[Timing]:
    """Making the sparse weights of the view, and both products with them."""

    def make() -> object:
        return compositing_weights(*scene.geometry, scene.viewmat, scene.K, scene.width, scene.height)

    timings = [repeat("weights", repetitions, make)]
    weights = compositing_weights(*scene.geometry, scene.viewmat, scene.K, scene.width, scene.height)
    CONSOLE.print(f"{weights.num_entries / 1e6:.2f} million weights in {weights.nbytes / 1e6:.0f} MB")
    for channels in (3, 16, 48):
        features = torch.rand(len(scene.means), channels)
        targets = torch.rand(scene.height, scene.width, channels)
        timings.append(repeat(f"W F, {channels} channels", repetitions, lambda f=features: weights.composite(f)))
        timings.append(repeat(f"W^T G, {channels} channels", repetitions, lambda t=targets: weights.backproject(t)))
    return timings


def main() -> None:
    """Times, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="a quarter of the resolution: minutes become seconds")
    parser.add_argument("--garden", type=Path, default=GARDEN, help="gsplat's test_garden.npz")
    options = parser.parse_args()

    scene = load_scene(options.garden, shrink=4 if options.quick else 1)
    CONSOLE.print(machine(), f"kernels: {library.load_kernels().instruction_set}")
    title = f"{scene.source}: {len(scene.means)} Gaussians, {scene.width} x {scene.height}"
    timings = [timing for channels in (3, 16, 48) for timing in time_ours(scene, channels, 9)]
    timings += time_weights(scene, 9)
    twin = time_reference(scene, 5)
    timings += twin

    table = Table("operation", "median ms", "from", "to", "processor ms", title=title)
    for timing in timings:
        row = timing.row()
        table.add_row(timing.name, *(f"{row[key]:.2f}" for key in ("median_ms", "min_ms", "max_ms", "processor_ms")))
    CONSOLE.print(table)
    bars = []
    for slow, fast in zip(twin, timings[:2], strict=True):
        measured = slow.median / fast.median
        name = f"{fast.name.rsplit(', ')[-1]} speed-up over the torch twin at {scene.width} x {scene.height}"
        bars.append(Bar(name, measured, ">=", SPEEDUP_BAR))
    write_results(options.json, [{"scene": title, **timing.row()} for timing in timings], bars)


if __name__ == "__main__":
    main()
