"""What the viewer's buttons do with a scene: select, show, export, fly to and name things."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer_elements import ViewerClick
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.decoding import Decode
from genlangsplat_ns.language.query import EMPTY_NORM, EmbeddedQuery, TextQuery
from genlangsplat_ns.language.selection import Selection, SelectionSettings, select_gaussians
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.ply import write_ply
from genlangsplat_ns.utils.files import check_new_file

MAX_PEAKS = 20
"""Only so many of the largest groups are flown to."""

AVERAGED_LATENTS = 4096
"""The average of the scene is taken over so many latents."""

CLICK_PIXELS = 9
"""Width and height of the picture that is drawn to see what lies under a click."""

CLICK_ANGLE = 0.002
"""Radians that one of its pixels covers, about one of a screen."""


@dataclass(frozen=True)
class Peak:
    """A place that answers a question."""

    center: tuple[float, ...]
    """Center of the Gaussians around it."""
    size: float
    """Largest extent of the group."""
    score: float
    """The highest relevancy there."""


@runtime_checkable
class AskedModel(Protocol):
    """What the tools need of a model with language; see `GenLangSplatModel`."""

    shown: Tensor | None
    """Which Gaussians are drawn; None for all."""

    @property
    def means(self) -> Any: ...

    @property
    def opacities(self) -> Any: ...

    @property
    def latents(self) -> Any: ...

    @property
    def decode(self) -> Decode: ...

    def check_language(self) -> None:
        """Raises when nothing can be asked yet."""
        ...

    def gaussian_relevancy(self, query: EmbeddedQuery) -> tuple[Tensor, tuple[str, ...]]:
        """Scores every Gaussian."""
        ...

    def render_latents(self, camera: Cameras) -> Tensor:
        """Composites the latents."""
        ...

    def splats(self, keep: Tensor) -> GaussianParameters:
        """Some of the Gaussians as files hold them."""
        ...

    def drawable(self) -> Tensor:
        """Gaussians that files take."""
        ...


class SceneTools:
    """The scene as the panel works on it.

    It is no module, so that the panel, which is one, can hold the model without becoming its own ancestor.

    Args:
        model: The model.
    """

    def __init__(self, model: AskedModel) -> None:
        self._model = model

    def select(self, query: EmbeddedQuery, threshold: float) -> Selection:
        """Selects the Gaussians that answer any text of a question.

        Raises:
            GenLangSplatError: The run has no language yet, or nothing answers.
        """
        scores = self._scores(query)
        keep = [self._chosen(column, threshold).keep for column in scores.T]
        selection = Selection(torch.stack(keep).any(dim=0), self._means)
        return selection.require_some(f"{'; '.join(query.query.texts)} above {threshold}")

    def peaks(self, query: EmbeddedQuery, threshold: float) -> list[Peak]:
        """Returns the groups of Gaussians that answer, the one with the highest relevancy first.

        Raises:
            GenLangSplatError: The run has no language yet, or nothing answers.
        """
        selection, scores = self.select(query, threshold), self._scores(query).amax(dim=1).cpu()
        found = []
        for group in selection.cleaned().groups()[:MAX_PEAKS]:
            points = group.means[group.keep]
            center, extent = points.mean(dim=0).tolist(), points.amax(dim=0) - points.amin(dim=0)
            found.append(Peak(tuple(center), float(extent.max()), float(scores[group.keep].max())))
        return sorted(found, key=lambda peak: -peak.score)

    def show(self, keep: Tensor | None) -> None:
        """Draws these Gaussians alone; None draws all."""
        self._model.shown = None if keep is None else keep.to(self._model.means.device)

    def export(self, selection: Selection, path: Path) -> None:
        """Writes the selected Gaussians as a PLY file.

        Raises:
            GenLangSplatError: The file exists or cannot be written.
        """
        if path.suffix.lower() != ".ply":
            raise GenLangSplatError(f"Found the export path {path}; give a file that ends in .ply.")
        if path.exists():
            raise GenLangSplatError(f"{path} exists already and is not overwritten; choose another name.")
        check_new_file(path, overwrite=True)
        write_ply(path, self._model.splats(selection.keep & self._model.drawable()))

    @torch.no_grad()
    def under(self, click: ViewerClick, level: str) -> Float[Tensor, "num_levels embedding_dim"]:
        """Returns the embeddings of what lies under a click, of one level or of all that show something.

        Raises:
            GenLangSplatError: The run has no language yet, or nothing with a latent lies there.
        """
        self._model.check_language()
        latents = self._model.render_latents(_camera_along(click))[CLICK_PIXELS // 2, CLICK_PIXELS // 2]
        latents = latents if level not in LEVELS else latents[LEVELS.index(level)][None]
        latents = latents[latents.norm(dim=-1) > EMPTY_NORM]
        if len(latents) == 0:
            raise GenLangSplatError("Nothing that was ever part of a region lies there. Click on something else.")
        return F.normalize(self._model.decode(F.normalize(latents, dim=-1)), dim=-1)

    @torch.no_grad()
    def query_like(self, embeddings: Float[Tensor, "num_levels embedding_dim"], query: TextQuery) -> EmbeddedQuery:
        """Makes a question of embeddings: what looks more like them than like the average of the scene.

        Texts are no measure here, because pictures resemble each other far more than they resemble any text.

        Args:
            embeddings: Of the thing to look for.
            query: The settings of the question.
        """
        positive = F.normalize(embeddings.mean(dim=0), dim=-1)
        latents = self._model.latents.detach().flatten(0, 1)
        latents = latents[latents.any(dim=-1)]
        latents = F.normalize(latents[:: 1 + len(latents) // AVERAGED_LATENTS], dim=-1)
        average = F.normalize(F.normalize(self._model.decode(latents), dim=-1).mean(dim=0), dim=-1)
        return EmbeddedQuery(replace(query, texts=("what was clicked",)), positive[None], average[None])

    @property
    def _means(self) -> Tensor:
        return self._model.means.detach().cpu()

    def _scores(self, query: EmbeddedQuery) -> Float[Tensor, "num_gaussians num_texts"]:
        self._model.check_language()
        return self._model.gaussian_relevancy(query)[0]

    def _chosen(self, scores: Tensor, threshold: float) -> Selection:
        opacities = torch.sigmoid(self._model.opacities.detach()).squeeze(-1).cpu()
        return select_gaussians(scores.cpu(), self._means, opacities, threshold, SelectionSettings())


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
