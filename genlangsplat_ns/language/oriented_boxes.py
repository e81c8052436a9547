"""Oriented boxes of groups of Gaussians, along the principal axes of their centers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PrincipalBox:
    """A box around points, in double precision.

    Attributes:
        center: Middle of the box.
        axes: Its unit directions as rows, by descending extent of the points; a right-handed system.
        size: Its lengths along these directions.
    """

    center: Float[Tensor, " 3"]
    axes: Float[Tensor, "3 3"]
    size: Float[Tensor, " 3"]

    @classmethod
    def around(cls, points: Float[Tensor, "count 3"]) -> PrincipalBox:
        """Fits the box of at least one point: its directions are the principal axes, and it holds all points."""
        points = points.detach().cpu().double()
        mean = points.mean(dim=0)
        centered = points - mean
        _, directions = torch.linalg.eigh(centered.T @ centered)
        axes = directions.T.flip(0)
        # Eigenvectors have any sign. The first two get a positive largest component, the third completes the system.
        largest = axes[:2].gather(1, axes[:2].abs().argmax(dim=1, keepdim=True))
        first, second = axes[:2] * largest.sign()
        axes = torch.stack([first, second, torch.linalg.cross(first, second)])
        along = centered @ axes.T
        low, high = along.amin(dim=0), along.amax(dim=0)
        return cls(mean + (low + high) / 2 @ axes, axes, high - low)

    def moved(self, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, " 3"], scale: float) -> PrincipalBox:
        """Returns the box of the points `scale * (rotation @ point + translation)`."""
        center = scale * (rotation @ self.center + translation)
        return PrincipalBox(center, self.axes @ rotation.T, self.size * scale)

    @property
    def numbers(self) -> dict[str, list[float] | list[list[float]]]:
        """The box as lists for a JSON file."""
        return {"center": self.center.tolist(), "axes": self.axes.tolist(), "size": self.size.tolist()}
