"""The photographs of a scene with their poses and lenses, in double precision, independent of the file format."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt8

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.lenses import Lens

LOGGER = logging.getLogger(__name__)

SplitName = Literal["train", "val", "test"]

MAX_COSINE = 0.05
"""Maximum cosine between two axes of a pose, which come from rounded numbers."""

SHOWN_NAMES = 5
"""Number of file names that a message shows."""


FULL_PHOTOGRAPHS = "full_photographs"
"""Name in the metadata of a dataparser of the list of photographs at full size."""


@dataclass(frozen=True, eq=False)
class PosedPhotograph:
    """One photograph."""

    path: Path
    pose: Float64[np.ndarray, "4 4"]
    """Camera to world, with nerfstudio's camera axes: x right, y up, looking along -z."""
    lens: Lens
    mask: Path | None = None
    depth: Path | None = None
    full: Path | None = None
    """The photograph at full size if `path` is a downscaled copy of it."""


@dataclass(frozen=True, eq=False)
class SeedPoints:
    """Colored points that initialize Gaussians, in the coordinates of the poses."""

    positions: Float64[np.ndarray, "count 3"]
    colors: UInt8[np.ndarray, "count 3"]


@dataclass(frozen=True, eq=False)
class PosedScene:
    """The photographs of a scene and what their files say about all of them."""

    photographs: Sequence[PosedPhotograph]
    applied_transform: Float64[np.ndarray, "3 4"] | None = None
    """Transform from the original coordinates to those of the poses."""
    applied_scale: float = 1.0
    orientation: str | None = None
    """An orientation method that overrides that of the settings."""
    seed_file: Path | None = None
    """A PLY file with seed points in the coordinates of the poses."""
    seeds: SeedPoints | None = None
    """Seed points in the original coordinates."""
    split_lists: Mapping[SplitName, Sequence[str]] = field(default_factory=dict)
    """Names of the photographs of each split, where the data list them."""
    photograph_scale: float = 1.0
    """The factor by which photographs and cameras are scaled when they are read."""


def format_option(words: str) -> str:
    """Returns an option of a data format and where it belongs, for a message."""
    return f"{words} (in ns-train after the name of the data format, nerfstudio-data or colmap)"


def join_names(names: Sequence[object]) -> str:
    """Joins the first names of a list for a message."""
    shown = ", ".join(str(name) for name in names[:SHOWN_NAMES])
    return shown + (", ..." if len(names) > SHOWN_NAMES else "")


def with_finite_poses(scene: PosedScene) -> PosedScene:
    """Leaves out photographs whose pose contains NaN or infinity, and logs their names.

    The rotation of the others is scaled to unit length, which some programs do not do.

    Raises:
        GenLangSplatError: No photograph is left, or a pose is no rotation and translation.
    """
    usable, dropped, mirrored, count = [], [], 0, len(scene.photographs)
    for photograph in scene.photographs:
        if not np.isfinite(photograph.pose).all():
            dropped.append(photograph.path.name)
            continue
        lengths = np.linalg.norm(photograph.pose[:3, :3], axis=0)
        axes = photograph.pose[:3, :3] / np.where(lengths > 0, lengths, 1)
        cosines = np.abs(axes.T @ axes - np.eye(3))
        if not lengths.all() or cosines.max() > MAX_COSINE:
            raise GenLangSplatError(
                f"The pose of {photograph.path.name} is not a rotation and a translation: its axes have the lengths "
                f"{', '.join(f'{length:.3g}' for length in lengths)}, and the cosine between two of them is "
                f"{cosines.max():.2g}. Correct its transform_matrix."
            )
        mirrored += bool(np.linalg.det(axes) < 0)
        if np.abs(lengths - 1).max() > 1e-3:
            pose = photograph.pose.copy()
            pose[:3, :3] /= lengths
            photograph = replace(photograph, pose=pose)
        usable.append(photograph)
    if dropped:
        LOGGER.warning(
            "Left out %d of %d photographs, whose poses contain NaN or infinity: %s.",
            *(len(dropped), count, join_names(dropped)),
        )
    if mirrored:
        LOGGER.warning(
            "The axes of %d of %d poses are left-handed. If all are, the scene is mirrored, otherwise poses are wrong.",
            *(mirrored, count),
        )
    if not usable:
        raise GenLangSplatError(
            f"None of the {count} photographs has a usable pose; expected finite numbers in transform_matrix. Compute "
            "the poses again."
        )
    return replace(scene, photographs=usable)
