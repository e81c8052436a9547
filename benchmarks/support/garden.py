"""The scene of the rasterizer benchmark: points of the Mip-NeRF 360 garden, as in gsplat's tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from genlangsplat_ns.rasterization import Gaussians, View
from genlangsplat_ns.utils.console import CONSOLE

GARDEN = Path(__file__).parents[3] / "shared" / "data" / "gsplat_garden" / "test_garden.npz"


@dataclass(frozen=True)
class GardenScene:
    """Gaussians and cameras; the first camera is timed."""

    source: str
    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    K: Tensor
    width: int
    height: int

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians without their colors."""
        return Gaussians(self.means, self.quats, self.scales, self.opacities)

    @property
    def viewmat(self) -> Tensor:
        """The world-to-camera matrix of the timed camera."""
        return self.viewmats[0]

    @property
    def view(self) -> View:
        """The timed camera."""
        return View(self.viewmat, self.K, self.width, self.height)

    @property
    def title(self) -> str:
        """A one-line description of the scene."""
        return f"{self.source}: {len(self.means)} Gaussians, {self.width} x {self.height}"

    def features(self, channels: int) -> Tensor:
        """The colors, or random values for another number of channels."""
        if channels == 3:
            return self.colors
        return torch.rand(len(self.means), channels, generator=torch.Generator().manual_seed(0))

    def leaves(self, channels: int) -> list[Tensor]:
        """Means, quaternions, scales, opacities and features that want a gradient."""
        return [tensor.clone().requires_grad_() for tensor in (*self.gaussians.tensors(), self.features(channels))]


def load_scene(garden: Path, shrink: int) -> GardenScene:
    """Points within two units of the origin, sized by their nearest neighbors; divides the image size by `shrink`."""
    random = np.random.default_rng(0)
    if garden.is_file():
        data = np.load(garden)
        points, colors = data["means3d"], data["colors"] / 255.0
        viewmats, K, width, height = data["viewmats"], data["Ks"][0], int(data["width"]), int(data["height"])
        kept = (np.abs(points) <= 2).all(axis=1)
        points, colors, source = points[kept], colors[kept], garden.name
    else:
        CONSOLE.print(f"[yellow]{garden} is not there: timing a synthetic scene of the same size instead.")
        points, colors = random.normal(0, 0.6, (111_785, 3)), random.random((111_785, 3))
        viewmats, width, height = np.eye(4)[None], 648, 420
        viewmats[0, 2, 3] = 2.5
        K = np.array([[480.0, 0.0, width / 2], [0.0, 480.0, height / 2], [0.0, 0.0, 1.0]])
        source = "synthetic"
    spacing = cKDTree(points).query(points, k=4)[0][:, 1:].mean(axis=1)
    count = len(points)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    return GardenScene(
        source=source,
        means=tensor(points),
        quats=tensor(random.normal(size=(count, 4))),
        scales=tensor(spacing[:, None] * random.lognormal(0, 0.5, (count, 3))),
        opacities=tensor(random.uniform(0.05, 0.99, count)),
        colors=tensor(colors),
        viewmats=tensor(viewmats),
        K=tensor(K * np.array([[1 / shrink], [1 / shrink], [1.0]])),
        width=width // shrink,
        height=height // shrink,
    )
