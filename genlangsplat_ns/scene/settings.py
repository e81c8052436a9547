"""What can be set about asking a scene. It imports no torch, because every command reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import QueryMode


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """The cameras to ask from.

    Raises:
        GenLangSplatError: Both a path and interpolation are given, or the number of cameras is not positive.
    """

    split: Literal["eval", "train", "all"] = "all"
    """Which views to ask from; eval are the held-out views."""
    camera_path: Path | None = None
    """Ask along a camera path that the viewer saved as JSON, instead of from the views."""
    interpolate: int | None = None
    """Ask from this many cameras between each view of the split and the next, instead of from the views."""

    def __post_init__(self) -> None:
        if self.camera_path is not None and self.interpolate is not None:
            raise GenLangSplatError("Found both --camera-path and --interpolate; give one of them.")
        if self.interpolate is not None and self.interpolate < 1:
            raise GenLangSplatError(f"Found --interpolate {self.interpolate}; give at least 1 camera for each view.")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How a scene is scored against labels."""

    labels: Path | None = None
    """Folder of the labels; None for the folder labels, label or segmentations beside the data."""
    protocol: tuple[str, ...] = ()
    """Protocols to score by, the deciding one first; none for those usual with the layout of the labels."""
    holdout_labeled: bool = False
    """Lift the latents again without the labeled views, in memory only; the colors have seen these views."""
    mode: QueryMode = "rendered"
    """rendered decodes every pixel, as papers do; gaussian scores Gaussians and splats that, faster without a GPU."""
