"""Settings of the views of a scene. This module does not import torch, because every command reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(kw_only=True)
class ViewSize:
    """The size of views."""

    max_image_side: int | None = None
    """Scale all views by one factor to at most this many pixels on the longest side; None keeps their size."""


@dataclass(kw_only=True)
class ViewSettings(ViewSize):
    """The views of a scene on disk."""

    data: Path
    """Folder of the scene."""
    data_format: str = "nerfstudio"
    """Name of the data format in nerfstudio, for example nerfstudio or colmap."""
