"""The scene operations behind the viewer's buttons: select, show and export Gaussians, and read clicked embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.answers import MIN_PEAK_OPACITY
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.language.selection import GaussianSelection
from genlangsplat_ns.language.settings import LevelRule
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.splat_files import format_to_write, write_splats
from genlangsplat_ns.utils.files import check_new_file
from genlangsplat_ns.viewer.rays import Ray

CLICK_PIXELS = 9
"""Width and height of the image rendered to find the latents under a click."""

MIN_HIT_OPACITY = 0.5
"""A ray that meets less opacity than this hits nothing."""

CLICK_ANGLE = 0.002
"""Angle in radians that a pixel of this image covers, about one pixel of a screen."""


@dataclass(frozen=True)
class SceneTools:
    """The scene operations that the panel's buttons call.

    This is not a module, so that the panel, which is a submodule of the model, can hold methods of the model.
    """

    field: Callable[[], LanguageField]
    """Returns the scene's language field; raises if there is no language phase yet."""
    render_latents: Callable[[Cameras], Float[Tensor, "height width levels latent_dim"]]
    """Renders the latents of all levels."""
    show: Callable[[Tensor | None], None]
    """Restricts drawing to these Gaussians; None draws all."""
    parameters: Callable[[Tensor], GaussianParameters]
    """Returns the parameters of the drawable Gaussians among the selected ones."""
    antialiased: bool
    """Whether they were trained with antialiasing, which their file says."""
    render: Callable[[Cameras], dict[str, Tensor]]
    """Renders colors, depth and accumulated opacity."""

    def export(self, selection: GaussianSelection, path: Path) -> None:
        """Writes the selected Gaussians as PLY, compressed PLY, SPZ or SOG by the file's ending.

        Raises:
            GenLangSplatError: The file exists, has no such ending or cannot be written.
        """
        format_to_write(path)
        if path.exists():
            raise GenLangSplatError(f"{path} exists already and is not overwritten; choose another name.")
        check_new_file(path, overwrite=True)
        write_splats(path, self.parameters(selection.keep), antialiased=self.antialiased)

    @torch.no_grad()
    def embeddings_at(self, click: Ray, level: LevelRule) -> Float[Tensor, "num_levels embedding_dim"]:
        """Returns the embeddings under a click, at one level or at all levels with a visible latent.

        Raises:
            GenLangSplatError: The run has no language phase yet, or no latent is visible there.
        """
        field = self.field()
        return field.embeddings_at(
            self.render_latents(camera_along(click))[CLICK_PIXELS // 2, CLICK_PIXELS // 2], level
        )

    @torch.no_grad()
    def distance_along(self, click: Ray) -> float | None:
        """Returns the distance from the origin of a click to what it hits; None if that is nearly transparent."""
        outputs = self.render(camera_along(click))
        center = CLICK_PIXELS // 2
        if float(outputs["accumulation"][center, center]) < MIN_HIT_OPACITY:
            return None
        return float(outputs["depth"][center, center])

    @torch.no_grad()
    def peak(self, query: EmbeddedQuery) -> Float[Tensor, "num_texts 3"]:
        """Returns for each text the center of the Gaussian with the highest relevancy that is not transparent.

        Raises:
            GenLangSplatError: The run has no language phase yet.
        """
        field = self.field()
        opaque = (field.opacities >= MIN_PEAK_OPACITY)[:, None]
        return field.means[(field.relevancy(query)[0] * opaque).argmax(dim=0)]

    def query_like(self, click: Ray, level: LevelRule) -> EmbeddedQuery:
        """Makes a query that finds everything similar to the object under a click.

        Raises:
            GenLangSplatError: The run has no language phase yet, or no latent is visible there.
        """
        query = TextQuery(("the clicked object",), level=level)
        return self.field().query_like(self.embeddings_at(click, level), query)


def camera_along(click: Ray) -> Cameras:
    """Returns a camera of `CLICK_PIXELS` pixels at the origin of a click that looks in its direction."""
    direction = F.normalize(torch.tensor(click.direction, dtype=torch.float32), dim=0)
    # The roll of the camera is arbitrary, because only the center of the image is read.
    axis = torch.eye(3)[int(direction.abs().argmin())]
    right = F.normalize(torch.linalg.cross(direction, axis), dim=0)
    up = torch.linalg.cross(right, direction)
    rotation = torch.stack([right, up, -direction], dim=1)
    pose = torch.cat([rotation, torch.tensor(click.origin, dtype=torch.float32)[:, None]], dim=1)
    center = CLICK_PIXELS / 2
    return Cameras(pose[None], 1 / CLICK_ANGLE, 1 / CLICK_ANGLE, center, center, CLICK_PIXELS, CLICK_PIXELS)
