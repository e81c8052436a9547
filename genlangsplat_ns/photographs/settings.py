"""Settings for cameras of photographs; imports no pycolmap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Intrinsics = Literal["auto", "shared", "per-folder", "per-photograph"]

LensModel = Literal["auto", "simple-radial", "opencv", "opencv-fisheye"]

Matching = Literal["auto", "exhaustive", "sequential", "similar"]


@dataclass(frozen=True)
class PhotographSettings:
    """How photographs become a scene."""

    max_image_side: int = 1600
    """Longest side in pixels of the photographs in the scene; larger ones are scaled down."""
    masks: Path | None = None
    """Folder of masks named like the photographs, black where they are ignored; None for the folder masks in the folder
    of the photographs, if there is one."""
    frames: int = 150
    """Number of frames taken from a video: the sharpest of each of as many equal parts."""
    intrinsics: Intrinsics = "auto"
    """Which photographs share a focal length and distortion, if their sizes are equal: those with the same EXIF camera
    and focal length (auto), all, those of one folder, or none."""
    lens: LensModel = "auto"
    """Lens model; auto is opencv for ten or more photographs that share a lens, else simple-radial."""
    matching: Matching = "auto"
    """Which photographs are compared: all with all (exhaustive), neighbors in the order of their names and similar ones
    (sequential), or similar ones only; auto is sequential for videos, exhaustive up to 150 photographs, else
    sequential. Neighbors by GPS are added to all but exhaustive."""
    max_features: int = 4096
    """Largest number of features of a photograph."""
