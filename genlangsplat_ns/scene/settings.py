"""Settings of scene queries. This module does not import torch, because every command reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import QueryMode


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """The cameras of a query.

    Raises:
        GenLangSplatError: Both a path and interpolation are given, or the number of cameras is not positive.
    """

    split: Literal["eval", "train", "all"] = "all"
    """Views to query; eval are the held-out views."""
    camera_path: Path | None = None
    """Query along a camera path that the viewer saved as JSON, with its crop, instead of the views."""
    interpolate: int | None = None
    """Query from this many cameras between consecutive views of the split, instead of the views."""

    def __post_init__(self) -> None:
        if self.camera_path is not None and self.interpolate is not None:
            raise GenLangSplatError("Found both --camera-path and --interpolate; give one of them.")
        if self.interpolate is not None and self.interpolate < 1:
            raise GenLangSplatError(f"Found --interpolate {self.interpolate}; give at least 1 camera per view.")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How a scene is scored against labels."""

    labels: Path | None = None
    """Folder or JSON file of the labels; None for the folder labels, label or segmentations next to the data."""
    protocol: tuple[str, ...] = ()
    """Evaluation protocols, the main one first; empty for the default protocols of the label layout."""
    holdout_labeled: bool = False
    """Lift the latents again without the labeled views, in memory only; the colors were still trained on them."""
    mode: QueryMode = "rendered"
    """rendered decodes every pixel, as papers do; gaussian splats the scores of Gaussians, faster without a GPU."""
