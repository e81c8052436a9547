"""What the page needs of a scene: its Gaussians as files, its views, and its settings.

The page numbers the Gaussians that can be drawn, in an order of its own; `rows` leads back to those of the model.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from genlangsplat_ns.language.settings import QuerySettings, SelectionSettings
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.spatial_order import spatial_order
from genlangsplat_ns.scene_io.spz import pack_spz

LOGGER = logging.getLogger(__name__)

FORMAT = "genlangsplat-page-1"

SPLATS = "scene.spz"

THUMBNAIL_SIDE = 160
"""The longest side of a thumbnail in pixels."""

SOFTNESS = 0.05
"""Initial width of the edge of a selection, in relevancy, as in ns-viewer."""

UP = (0.0, 0.0, 1.0)
"""The upward direction of runs, unless their cameras are turned by more than `LARGEST_TILT`."""

LARGEST_TILT = math.cos(math.radians(45))

WIDEST = 120.0
"""Field of view in degrees that a camera of the page can have at most; fisheye cameras have more."""


@dataclass(frozen=True, eq=False)
class PageScene:
    """The Gaussians of a scene in the order of the page."""

    scene: LanguageScene
    rows: Int64[Tensor, " num_shown"]
    """The Gaussian of the model for each Gaussian of the page."""

    @classmethod
    def of(cls, scene: LanguageScene) -> PageScene:
        """Takes all Gaussians that can be drawn, in the order of the model."""
        return cls(scene, scene.model.drawable().nonzero().squeeze(-1))

    @classmethod
    def compact(cls, scene: LanguageScene, most: int | None = None) -> PageScene:
        """Takes the `most` important Gaussians that can be drawn (None for all), in the order that compresses best."""
        page = cls.of(scene)
        gaussians = page.gaussians()
        kept = most_visible(gaussians, len(gaussians) if most is None else most)
        return cls(scene, page.rows[kept][spatial_order(gaussians.means[kept].numpy())])

    @property
    def in_model_order(self) -> bool:
        """Whether the page has all Gaussians of the model, in its order."""
        return torch.equal(self.rows, torch.arange(self.scene.model.num_points))

    @property
    def antialiased(self) -> bool:
        """Whether the Gaussians were trained with antialiasing."""
        return self.scene.model.config.rasterize_mode == "antialiased"

    def gaussians(self) -> GaussianParameters:
        """Returns the parameters of the Gaussians."""
        everything = self.scene.model.splats(torch.ones(self.scene.model.num_points, dtype=torch.bool))
        return GaussianParameters(**{name: values[self.rows] for name, values in everything.tensors().items()})

    def splats(self) -> bytes:
        """Returns the Gaussians as an SPZ file, fast and not as small as possible."""
        return pack_spz(self.gaussians(), self.antialiased, effort=1)

    def views(self) -> list[SceneView]:
        """Lists the views, training views first; none without photographs."""
        return self.scene.views()

    def mask_of(self, bits: bytes) -> Tensor:
        """Returns the mask of the model's Gaussians for a mask of the page's, packed into bits."""
        mask = torch.zeros(self.scene.model.num_points, dtype=torch.bool)
        unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), count=len(self.rows)).astype(bool)
        mask[self.rows[torch.from_numpy(unpacked)]] = True
        return mask


def most_visible(gaussians: GaussianParameters, most: int) -> Int64[Tensor, " kept"]:
    """Returns the indices of at most `most` Gaussians with the largest opacity times size, in ascending order.

    The size is the product of the two largest standard deviations: the area that a Gaussian can cover.
    """
    if most >= len(gaussians):
        return torch.arange(len(gaussians))
    areas = gaussians.scales.topk(2, dim=1).values.sum(dim=1)
    weights = torch.nn.functional.logsigmoid(gaussians.opacities[:, 0]) + areas
    return weights.topk(most).indices.sort().values


def with_degree(gaussians: GaussianParameters, degree: int) -> GaussianParameters:
    """Returns Gaussians without the spherical harmonics above a degree."""
    return replace(gaussians, features_rest=gaussians.features_rest[:, : (degree + 1) ** 2 - 1])


def describe_page(
    page: PageScene,
    query: QuerySettings,
    selection: SelectionSettings,
    texts: tuple[str, ...] = (),
    config: str | None = None,
    options: tuple[str, ...] = (),
    thumbnails: bool = True,
) -> dict[str, Any]:
    """Returns the content of scene.json.

    Args:
        page: The scene.
        query: How texts are scored; the page starts with it.
        selection: How Gaussians are selected.
        texts: The texts that the page asks when it opens.
        config: The config.yml in the commands that a live page shows; None for a shared page.
        options: Further options in these commands.
        thumbnails: Whether there are thumbnails of the views.
    """
    described = [
        {**_describe_view(page.scene, view), "thumbnail": thumbnail_name(number) if thumbnails else None}
        for number, view in enumerate(page.views())
    ]
    document = {
        "format": FORMAT,
        "name": page.scene.title,
        "live": config is not None,
        "splats": {"file": SPLATS, "count": len(page.rows)},
        "up": _upward([view["rotation"] for view in described]),
        "views": described,
        "levels": list(LEVELS),
        "query": {
            "level": query.level,
            "threshold": query.threshold,
            "softness": SOFTNESS,
            "temperature": query.temperature,
            "negatives": list(query.negatives),
            "prompts": query.prompts,
        },
        "selection": asdict(selection),
        "encoder": page.scene.autoencoder_identity.encoder,
        "texts": list(texts),
    }
    return document | ({} if config is None else {"config": config, "options": list(options)})


def thumbnail_name(number: int) -> str:
    """Returns the file name of a view's thumbnail."""
    return f"thumbnails/{number:04d}.jpg"


def _describe_view(scene: LanguageScene, view: SceneView) -> dict[str, Any]:
    """Describes the camera of a view without reading photographs: undistorting them changes only the intrinsics."""
    camera = scene.datamanager.dataset(view.split).cameras[view.index]
    pose = camera.camera_to_worlds.cpu()
    height = int(camera.height)
    angle = 2 * math.degrees(math.atan(height / 2 / float(camera.fy)))
    return {
        "name": view.name,
        "split": view.split,
        "position": pose[:3, 3].tolist(),
        "rotation": pose[:3, :3].tolist(),
        "fov_y": min(angle, WIDEST),
        "width": int(camera.width),
        "height": height,
    }


def _upward(rotations: list[list[list[float]]]) -> list[float]:
    """Returns the upward direction of a scene: that of its cameras if they do not stand upright in the run's frame."""
    if not rotations:
        return list(UP)
    mean = np.array(rotations)[:, :, 1].mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-6 or mean @ UP > LARGEST_TILT * length:
        return list(UP)
    return (mean / length).tolist()


def thumbnail(scene: LanguageScene, view: SceneView) -> bytes:
    """Reads the photograph of a view and returns it as a small JPEG file.

    Raises:
        GenLangSplatError: The photograph is gone or damaged.
    """
    picture = Image.fromarray(scene.image(view).cpu().numpy())
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    stored = BytesIO()
    picture.save(stored, "JPEG", quality=80)
    return stored.getvalue()
