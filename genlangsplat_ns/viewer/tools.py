"""What the viewer's buttons do with a scene: select, show, export, fly to and name things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer_elements import ViewerClick
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.field import LanguageField, Peak
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.language.selection import GaussianSelection
from genlangsplat_ns.language.settings import LevelRule
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.ply import write_ply
from genlangsplat_ns.utils.files import check_new_file

CLICK_PIXELS = 9
"""Width and height of the picture that is drawn to see what lies under a click."""

CLICK_ANGLE = 0.002
"""Radians that one of its pixels covers, about one of a screen."""


@dataclass(frozen=True)
class SceneTools:
    """What the panel's buttons do with a scene.

    It is no module, so that the panel, which is one, can hold methods of the model that holds the panel.
    """

    field: Callable[[], LanguageField]
    """Gives the scene's language field; raises when there is no language phase yet."""
    render_latents: Callable[[Cameras], Float[Tensor, "height width levels latent_dim"]]
    """Composites the latents of all levels into a view."""
    show: Callable[[Tensor | None], None]
    """Draws only these Gaussians from now on; None draws all."""
    parameters: Callable[[Tensor], GaussianParameters]
    """Gives the parameters of those of the selected Gaussians that can be drawn."""

    def select(self, query: EmbeddedQuery, threshold: float) -> GaussianSelection:
        """Selects the Gaussians that answer any text of a query.

        Raises:
            GenLangSplatError: The run has no language yet, or nothing answers.
        """
        return self.field().select(query.with_threshold(threshold))

    def peaks(self, query: EmbeddedQuery, threshold: float) -> list[Peak]:
        """Returns the groups of Gaussians that answer, the one with the highest relevancy first.

        Raises:
            GenLangSplatError: The run has no language yet, or nothing answers.
        """
        return self.field().peaks(query.with_threshold(threshold))

    def export(self, selection: GaussianSelection, path: Path) -> None:
        """Writes the selected Gaussians as a PLY file.

        Raises:
            GenLangSplatError: The file exists or cannot be written.
        """
        if path.suffix.lower() != ".ply":
            raise GenLangSplatError(f"Found the export path {path}; give a file that ends in .ply.")
        if path.exists():
            raise GenLangSplatError(f"{path} exists already and is not overwritten; choose another name.")
        check_new_file(path, overwrite=True)
        write_ply(path, self.parameters(selection.keep))

    @torch.no_grad()
    def embeddings_at(self, click: ViewerClick, level: LevelRule) -> Float[Tensor, "num_levels embedding_dim"]:
        """Returns the embeddings of what lies under a click, at one level or at all levels that show something.

        Raises:
            GenLangSplatError: The run has no language yet, or no latent is visible there.
        """
        field = self.field()
        return field.embeddings_at(
            self.render_latents(_camera_along(click))[CLICK_PIXELS // 2, CLICK_PIXELS // 2], level
        )

    def query_like(self, click: ViewerClick, level: LevelRule) -> EmbeddedQuery:
        """Makes a query that finds what resembles the thing under a click.

        Raises:
            GenLangSplatError: As `embeddings_at`.
        """
        query = TextQuery(("what was clicked",), level=level)
        return self.field().query_like(self.embeddings_at(click, level), query)


def _camera_along(click: ViewerClick) -> Cameras:
    """A camera at the origin of a click that looks along it."""
    direction = F.normalize(torch.tensor(click.direction, dtype=torch.float32), dim=0)
    # Any axis that is not the direction's own will do: the picture is read in its middle.
    other = torch.eye(3)[int(direction.abs().argmin())]
    right = F.normalize(torch.linalg.cross(direction, other), dim=0)
    up = torch.linalg.cross(right, direction)
    rotation = torch.stack([right, up, -direction], dim=1)
    pose = torch.cat([rotation, torch.tensor(click.origin, dtype=torch.float32)[:, None]], dim=1)
    middle = CLICK_PIXELS / 2
    return Cameras(pose[None], 1 / CLICK_ANGLE, 1 / CLICK_ANGLE, middle, middle, CLICK_PIXELS, CLICK_PIXELS)
