"""Small random scenes, and helpers for comparisons."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from genlangsplat_ns.rasterization import CompositingWeights, Gaussians, View


@dataclass(frozen=True)
class SmallScene:
    """Gaussians in front of a rotated camera with an off-center principal point."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int

    @property
    def gaussians(self) -> Gaussians:
        return Gaussians(self.means, self.quats, self.scales, self.opacities)

    @property
    def view(self) -> View:
        return View(self.viewmats[0], self.Ks[0], self.width, self.height)

    def arguments(self) -> dict[str, object]:
        """The arguments of `rasterization`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def leaves(self, dtype: torch.dtype) -> SmallScene:
        """A copy with leaf tensors of another type; all but the camera matrix require a gradient."""
        tensors = {
            field.name: getattr(self, field.name).detach().to(dtype).clone().requires_grad_(field.name != "Ks")
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


def small_scene(
    count: int = 150, width: int = 45, height: int = 37, channels: int = 3, harmonics: bool = False, seed: int = 0
) -> SmallScene:
    """Gaussians of all sizes, some partly or fully outside an image whose size is no multiple of the tile size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    angle = torch.tensor(0.3)
    viewmat = torch.eye(4)
    viewmat[0, 0] = viewmat[2, 2] = angle.cos()
    viewmat[0, 2], viewmat[2, 0] = angle.sin(), -angle.sin()
    viewmat[:3, 3] = torch.tensor([0.1, -0.2, 3.0])
    focal = 0.9 * width
    camera = torch.tensor([[focal, 0.0, width / 2 + 3], [0.0, 1.1 * focal, height / 2 - 2], [0.0, 0.0, 1.0]])
    return SmallScene(
        means=normal(count, 3) * torch.tensor([1.2, 1.0, 0.8]),
        quats=normal(count, 4),
        scales=torch.exp(0.7 * normal(count, 3) - 2.3),
        opacities=torch.rand(count, generator=generator),
        colors=0.4 * normal(count, 16, 3) if harmonics else torch.rand(count, channels, generator=generator),
        viewmats=viewmat[None],
        Ks=camera[None],
        width=width,
        height=height,
    )


def relative_error(value: Tensor, expected: Tensor) -> float:
    """L2 norm of the difference, relative to that of the expected tensor."""
    return float((value.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-12))


def dense(weights: CompositingWeights) -> Tensor:
    """The matrix (height * width, num_gaussians), whose columns are the images of one Gaussian each."""
    return weights.composite(torch.eye(weights.num_gaussians)).flatten(0, 1)
