"""LangSplat's feature files: `STEM_s.npy`, four region maps (default, s, m, l), and `STEM_f.npy`, the embeddings.

The default level combines the masks of the other three. No queries use it, neither LangSplat's nor those here, so it is
ignored on reading and written empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from numpy.typing import NDArray

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.view_file import ViewFeatures
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.array_files import read_array, write_array
from genlangsplat_ns.utils.files import atomic_path

Numbers: TypeAlias = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
Regions: TypeAlias = Int32[NDArray[np.int32], "levels height width"]

SIZE_TOLERANCE = 1.5
"""Deviation of a resized image's width from the exact aspect ratio, from rounding, in pixels."""


def check_langsplat_files(folder: Path, stems: Sequence[str]) -> None:
    """Checks that LangSplat's folder `language_features` has both files of each image, named without its suffix.

    Raises:
        GenLangSplatError: If the folder or a file is missing.
    """
    if not folder.is_dir():
        raise GenLangSplatError(
            f"There is no folder {folder}. Give the folder with LangSplat's STEM_s.npy and STEM_f.npy."
        )
    names = [f"{stem}_{kind}.npy" for stem in stems for kind in "sf"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise GenLangSplatError(
            f"There is no {folder / missing[0]}; {len(missing)} of {len(names)} files are missing in total. "
            "LangSplat's preprocessing writes STEM_s.npy and STEM_f.npy for each image. Give the folder with these "
            "files, and a scene with the same images."
        )


def read_langsplat_view(
    folder: Path,
    stem: str,
    positions: Float[NDArray[np.float64], "height width 2"],
    photograph_size: tuple[int, int],
    embedding_dim: int,
) -> ViewFeatures:
    """Reads the features of one view, and maps its regions from the original image to the undistorted view.

    Args:
        positions: Position (x, y) in the original image for each pixel of the view, in pixels; outside the image where
            the view shows nothing of it.
        photograph_size: Width and height of the original image.

    Raises:
        GenLangSplatError: If a file is missing or damaged, or has another size, aspect ratio or embedding width.
    """
    maps, rows = _read_array(folder / f"{stem}_s.npy"), _read_array(folder / f"{stem}_f.npy")
    _check(folder / stem, maps, rows, photograph_size, embedding_dim)
    view_size = (positions.shape[1], positions.shape[0])
    if maps.shape[:0:-1] == view_size != photograph_size:
        raise GenLangSplatError(
            f"{folder / stem}_s.npy has the size of the undistorted view ({view_size[0]}x{view_size[1]}), not of the "
            f"original image ({photograph_size[0]}x{photograph_size[1]}), so it would be undistorted twice. Use "
            "these features with a scene of the undistorted images."
        )
    levels = maps[1:].astype(np.int32)
    height, width = levels.shape[1:]
    # Pixel centers are at integer coordinates in both images.
    scale = np.array([width / photograph_size[0], height / photograph_size[1]])
    columns, lines = np.floor((positions + 0.5) * scale).astype(np.int64).transpose(2, 0, 1)
    inside = (columns >= 0) & (columns < width) & (lines >= 0) & (lines < height)
    moved = np.where(inside, levels[:, lines.clip(0, height - 1), columns.clip(0, width - 1)], -1)
    regions, kept = _renumber(moved.astype(np.int32))
    embeddings = torch.from_numpy(rows[kept].astype(np.float32))
    return ViewFeatures(torch.from_numpy(regions), torch.nn.functional.normalize(embeddings, dim=-1))


def write_langsplat_view(folder: Path, stem: str, features: ViewFeatures) -> None:
    """Writes the features of one view as `STEM_s.npy` and `STEM_f.npy` in LangSplat's format.

    Rows are written in order of level, without regions that have no pixel.

    Raises:
        GenLangSplatError: If a file cannot be written.
    """
    regions, kept = _renumber(features.regions.numpy())
    empty = np.full_like(regions[:1], -1)
    # LangSplat computes embeddings in half precision and stores them in single precision.
    rows = features.embeddings.numpy()[kept].astype(np.float16).astype(np.float32)
    for name, array in (("f", rows), ("s", np.concatenate([empty, regions]).astype(np.float32))):
        try:
            with atomic_path(folder / f"{stem}_{name}.npy") as path:
                write_array(path, array)
        except OSError as error:
            raise GenLangSplatError(
                f"{folder / stem}_{name}.npy could not be written ({error.strerror or error}). Free disk space or "
                "fix the permissions, then run the command again."
            ) from error


def _renumber(regions: Regions) -> tuple[Regions, Int64[NDArray[np.int64], " kept"]]:
    """Renumbers the regions from 0 in order of level, and returns the previous number of each."""
    numbered = np.full_like(regions, -1)
    kept: list[NDArray[np.int32]] = []
    for level, before in enumerate(regions):
        known, ranks = np.unique(before[before >= 0], return_inverse=True)
        numbered[level][before >= 0] = ranks + sum(map(len, kept))
        kept.append(known)
    return numbered, np.concatenate(kept).astype(np.int64)


def _read_array(path: Path) -> Numbers:
    try:
        return read_array(path)
    except (OSError, ValueError) as error:
        raise GenLangSplatError(
            f"{path} is truncated or not an array ({error}). Run the preprocessing again."
        ) from error


def _check(name: Path, maps: Numbers, rows: Numbers, photograph_size: tuple[int, int], embedding_dim: int) -> None:
    if maps.ndim != 3 or len(maps) != len(LEVELS) + 1:
        raise GenLangSplatError(
            f"{name}_s.npy has shape {maps.shape}, expected 4 x height x width (default, s, m, l). "
            "Give the folder that LangSplat's preprocessing wrote."
        )
    if rows.ndim != 2 or rows.shape[1] != embedding_dim:
        raise GenLangSplatError(
            f"{name}_f.npy has shape {rows.shape}, expected rows of the encoder's {embedding_dim} values. Give the "
            "folder `language_features`, not the compressed `language_features_dim3`, and with --encoder the encoder "
            "that was used."
        )
    if not np.isfinite(rows).all() or not np.isfinite(maps).all():
        raise GenLangSplatError(
            f"{name}_f.npy or {name}_s.npy contains values that are not finite. Run the preprocessing again."
        )
    if (maps != np.round(maps)).any() or (maps.size and not -1 <= maps.min() <= maps.max() < len(rows)):
        raise GenLangSplatError(
            f"{name}_s.npy refers to rows {maps.min():g} to {maps.max():g}, but {name}_f.npy has {len(rows)}. Run the "
            "preprocessing again."
        )
    height, width = maps.shape[1:]
    expected_width = photograph_size[0] * height / photograph_size[1]
    if not maps.size or abs(expected_width - width) > SIZE_TOLERANCE * max(1.0, height / photograph_size[1]):
        raise GenLangSplatError(
            f"{name}_s.npy is {width}x{height}, but the image is {photograph_size[0]}x{photograph_size[1]}, which has "
            "another aspect ratio. Features must belong to the images of the scene. Use features of undistorted "
            "images with a scene of the undistorted images."
        )
