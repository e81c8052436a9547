"""Which photographs share a lens, and with which values its estimation starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median

from genlangsplat_ns.photographs.prepare import PreparedPhotograph
from genlangsplat_ns.photographs.settings import Intrinsics, LensModel

TYPICAL_FOCAL = 1.2
"""Focal length of unknown lenses, relative to the long side, as in COLMAP."""

ENOUGH_FOR_DISTORTION = 10
"""From this number of photographs on, `auto` estimates all terms of OPENCV's model."""


@dataclass(frozen=True)
class LensGroup:
    """Photographs that share a lens."""

    key: str
    """What they have in common."""
    model: str
    """COLMAP's name of the lens model."""
    width: int
    height: int
    focal: float
    """Focal length in pixels with which the estimation starts."""
    known: bool
    """Whether it comes from EXIF data."""
    names: tuple[str, ...]

    @property
    def parameters(self) -> list[float]:
        """COLMAP's parameters of the lens, without distortion."""
        center = [self.width / 2, self.height / 2]
        if self.model == "SIMPLE_RADIAL":
            return [self.focal, *center, 0.0]
        return [self.focal, self.focal, *center, 0.0, 0.0, 0.0, 0.0]


def group_by_lens(
    photographs: Sequence[PreparedPhotograph], intrinsics: Intrinsics, model: LensModel
) -> list[LensGroup]:
    """Groups photographs by lens. Photographs of different sizes, also upright and lying ones, never share one."""
    groups: dict[str, list[PreparedPhotograph]] = {}
    for photograph in photographs:
        common = {
            "auto": photograph.shot.camera,
            "shared": "",
            "per-folder": str(PurePosixPath(photograph.name).parent),
            "per-photograph": photograph.name,
        }[intrinsics]
        groups.setdefault(f"{photograph.width}x{photograph.height} {common}".strip(), []).append(photograph)
    return [_group(key, members, model) for key, members in groups.items()]


def _group(key: str, members: Sequence[PreparedPhotograph], model: LensModel) -> LensGroup:
    width, height = members[0].width, members[0].height
    focals = [item.shot.focal for item in members if item.shot.focal is not None]
    focal = (median(focals) if focals else TYPICAL_FOCAL) * max(width, height)
    if model == "auto":
        model = "opencv" if len(members) >= ENOUGH_FOR_DISTORTION else "simple-radial"
    name = model.upper().replace("-", "_")
    return LensGroup(key, name, width, height, focal, bool(focals), tuple(item.name for item in members))
