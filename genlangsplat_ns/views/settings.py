"""Settings of the views of a scene. This module does not import torch, because every command reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro


@dataclass(kw_only=True)
class ViewSize:
    """The size of views."""

    max_image_side: int | None = None
    """Scale all views by one factor to at most this many pixels on the longest side; None keeps their size."""


@dataclass(kw_only=True)
class ParserSettings:
    """How a data format is read, like the options after the format in ns-train; None for the default of the format."""

    colmap_path: Path | None = None
    """Folder of the COLMAP model, relative to the scene; None looks in the usual places, such as sparse/0."""
    images_path: Path | None = None
    """Folder of the photographs of a COLMAP scene, relative to the scene."""
    masks_path: Path | None = None
    """Folder of the masks of a COLMAP scene, relative to the scene."""
    downscale_factor: int | None = None
    """Read photographs downscaled by this factor."""
    eval_mode: Literal["fraction", "filename", "interval", "all"] | None = None
    """How held-out views are chosen."""
    eval_interval: int | None = None
    """Hold out every view at this interval, with the eval mode interval."""
    train_split_fraction: float | None = None
    """Share of the views that train, with the eval mode fraction."""
    orientation_method: Literal["pca", "up", "vertical", "none"] | None = None
    """How the scene is oriented."""
    center_method: Literal["poses", "focus", "none"] | None = None
    """How the scene is centered."""
    auto_scale_poses: bool | None = None
    """Whether the camera positions are scaled to at most 1."""
    scale_factor: float | None = None
    """Further factor on the camera positions."""

    def given(self) -> dict[str, Any]:
        """Returns the settings that were given."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(kw_only=True)
class ViewSettings(ViewSize):
    """The views of a scene on disk."""

    data: Path
    """Folder of the scene."""
    data_format: str = "nerfstudio"
    """Data format in nerfstudio, for example nerfstudio or colmap; the default also recognizes COLMAP's folders."""
    parser: tyro.conf.OmitArgPrefixes[ParserSettings] = field(default_factory=ParserSettings)
    """How the data format is read."""
