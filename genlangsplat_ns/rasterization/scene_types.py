"""The input of the rasterizer: activated Gaussians and one pinhole view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Activated Gaussians."""

    means: Float[Tensor, "num_gaussians 3"]
    """Centers."""
    quats: Float[Tensor, "num_gaussians 4"]
    """Rotations as w, x, y, z, of any nonzero length."""
    scales: Float[Tensor, "num_gaussians 3"]
    """Standard deviations along the axes, not their logarithms."""
    opacities: Float[Tensor, " num_gaussians"]
    """Opacities in 0..1, not their logits."""

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, keep: Bool[Tensor, " num_gaussians"]) -> Gaussians:
        """Selects Gaussians by a boolean mask."""
        return self._map(lambda values: values[keep])

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.means.device

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns means, quats, scales and opacities."""
        return self.means, self.quats, self.scales, self.opacities

    def to(self, device: torch.device | str) -> Gaussians:
        """Moves the Gaussians to a device."""
        return self._map(lambda values: values.to(device))

    def detach(self) -> Gaussians:
        """Detaches the Gaussians from the autograd graph."""
        return self._map(Tensor.detach)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        return Gaussians(*(function(values) for values in self.tensors()))


@dataclass(frozen=True, eq=False)
class View:
    """One pinhole view with OpenCV axes (x right, y down, z forward)."""

    viewmat: Float[Tensor, "4 4"]
    """World-to-camera matrix."""
    K: Float[Tensor, "3 3"]
    """Focal lengths and principal point in pixels."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""

    def to(self, device: torch.device | str) -> View:
        """Moves the view to a device."""
        return View(self.viewmat.to(device), self.K.to(device), self.width, self.height)

    def detach(self) -> View:
        """Detaches the view from the autograd graph."""
        return View(self.viewmat.detach(), self.K.detach(), self.width, self.height)

    def downscaled(self, factor: int) -> View:
        """Divides the resolution by a whole number; the size is rounded down."""
        K = self.K.clone()
        K[:2] /= factor
        return View(self.viewmat, K, self.width // factor, self.height // factor)
