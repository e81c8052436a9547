"""The training views of a scene for the viewer: where its camera starts, and which view shows a place best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from genlangsplat_ns.viewer.rays import SceneRay

MARGIN = 0.1
"""A place this close to the border of a view, as a share of its width and height, is not shown well."""

MAX_TRIED = 12
"""Number of views that are checked for something in front of a place."""

VISIBLE = 0.85
"""A place is hidden if a ray towards it ends before this share of the way."""


@dataclass(frozen=True)
class TrainingViews:
    """The training views of a scene."""

    names: Sequence[str]
    cameras: Cameras

    def best(self, place: Float[Tensor, " 3"], distance_along: Callable[[SceneRay], float | None]) -> str | None:
        """Returns the name of the nearest view that shows a place, not at its border and with nothing in front of it.

        Args:
            place: In the frame of the run.
            distance_along: Returns how far a ray gets; None if it hits nothing.

        Returns:
            The nearest view that has the place in its image if it is hidden from all; None if no view has it.
        """
        poses = self.cameras.camera_to_worlds.cpu()
        offsets = place.cpu() - poses[:, :3, 3]
        x, y, z = torch.einsum("nji,nj->in", poses[:, :3, :3], offsets)
        columns = (x / -z * self.cameras.fx[:, 0].cpu() + self.cameras.cx[:, 0].cpu()) / self.cameras.width[:, 0].cpu()
        rows = (-y / -z * self.cameras.fy[:, 0].cpu() + self.cameras.cy[:, 0].cpu()) / self.cameras.height[:, 0].cpu()
        inside = (z < 0) & (torch.stack([columns, rows]) - 0.5).abs().le(0.5 - MARGIN).all(dim=0)
        distances = offsets.norm(dim=1)
        candidates = [view for view in distances.argsort().tolist() if bool(inside[view])]
        for view in candidates[:MAX_TRIED]:
            origin, direction = (vector.tolist() for vector in (poses[view, :3, 3], offsets[view]))
            reached = distance_along(SceneRay(tuple(origin), tuple(direction)))
            if reached is not None and reached >= VISIBLE * float(distances[view]):
                return self.names[view]
        return self.names[candidates[0]] if candidates else None
