"""LangSplat's feature files: `STEM_s.npy`, four maps of rows (default, s, m, l), and `STEM_f.npy`, the rows.

The default level mixes the masks of the other three, and neither LangSplat's queries nor ours use it: it is skipped
when files are read, and empty when they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Int32

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import ViewFeatures
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.files import atomic_path

SIZE_TOLERANCE = 1.5
"""Pixels by which a resized picture may miss the exact proportions, from rounding."""


def require_langsplat_files(folder: Path, stems: Sequence[str]) -> None:
    """Checks that both files of every view are there, before the first one is converted.

    Args:
        folder: LangSplat's `language_features`.
        stems: Names of the photographs without their endings.

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
            f"There is no {folder / missing[0]}, and {len(missing)} of {len(names)} files are missing in all. "
            "LangSplat's preprocessing writes STEM_s.npy and STEM_f.npy for every photograph; give the folder with "
            "these, and a scene with the same photographs."
        )


def read_langsplat_view(
    folder: Path,
    stem: str,
    positions: Float[np.ndarray, "height width 2"],
    photograph_size: tuple[int, int],
    embedding_dim: int,
) -> ViewFeatures:
    """Reads the features of one view, and moves its regions from the photograph to the undistorted view.

    Args:
        folder: LangSplat's `language_features`.
        stem: Name of the photograph without its ending.
        positions: For every pixel of the view the position (x, y) on the photograph that it shows; outside it for none.
        photograph_size: Width and height of the photograph in whose pixels `positions` are.
        embedding_dim: Width of the encoder's embeddings.

    Raises:
        GenLangSplatError: If a file is missing, damaged, of another size or proportion, or holds other embeddings.
    """
    maps, rows = _read_array(folder / f"{stem}_s.npy"), _read_array(folder / f"{stem}_f.npy")
    _check(folder / stem, maps, rows, photograph_size, embedding_dim)
    view_size = (positions.shape[1], positions.shape[0])
    if maps.shape[:0:-1] == view_size != photograph_size:
        raise GenLangSplatError(
            f"{folder / stem}_s.npy has the size of the undistorted view ({view_size[0]}x{view_size[1]}), not of the "
            f"photograph ({photograph_size[0]}x{photograph_size[1]}): the lens would be taken out twice. Features of "
            "undistorted pictures need a scene of the undistorted pictures."
        )
    levels = maps[1:].astype(np.int32)
    height, width = levels.shape[1:]
    # Pixel centers lie at whole numbers on both sides.
    scale = np.array([width / photograph_size[0], height / photograph_size[1]])
    columns, lines = np.floor((positions + 0.5) * scale).astype(np.int64).transpose(2, 0, 1)
    inside = (columns >= 0) & (columns < width) & (lines >= 0) & (lines < height)
    moved = np.where(inside, levels[:, lines.clip(0, height - 1), columns.clip(0, width - 1)], -1)
    regions, kept = _renumbered(moved.astype(np.int32))
    embeddings = torch.from_numpy(rows[kept].astype(np.float32))
    return ViewFeatures(torch.from_numpy(regions), torch.nn.functional.normalize(embeddings, dim=-1))


def write_langsplat_view(folder: Path, stem: str, features: ViewFeatures) -> None:
    """Writes the features of one view as LangSplat would.

    Args:
        folder: Where `STEM_s.npy` and `STEM_f.npy` go.
        stem: Name of the photograph without its ending.
        features: Regions at three levels; rows come out ordered by level, without those that show nowhere.

    Raises:
        GenLangSplatError: If a file cannot be written.
    """
    regions, kept = _renumbered(features.regions.numpy())
    empty = np.full_like(regions[:1], -1)
    # LangSplat computes in half precision and keeps single.
    rows = features.embeddings.numpy()[kept].astype(np.float16).astype(np.float32)
    for name, array in (("f", rows), ("s", np.concatenate([empty, regions]).astype(np.float32))):
        try:
            with atomic_path(folder / f"{stem}_{name}.npy") as path:
                np.save(path, array)
        except OSError as error:
            raise GenLangSplatError(
                f"{folder / stem}_{name}.npy could not be written ({error.strerror or error}). Make room or give "
                "access, and run the command again."
            ) from error


def _renumbered(
    regions: Int32[np.ndarray, "levels height width"],
) -> tuple[Int32[np.ndarray, "levels height width"], np.ndarray]:
    """Numbers the regions through from 0, level by level, and says which number each had before."""
    numbered = np.full_like(regions, -1)
    kept: list[np.ndarray] = []
    for level, before in enumerate(regions):
        known, ranks = np.unique(before[before >= 0], return_inverse=True)
        numbered[level][before >= 0] = ranks + sum(map(len, kept))
        kept.append(known)
    return numbered, np.concatenate(kept).astype(np.int64)


def _read_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
        # An archive or an array of words loads as well.
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
            raise ValueError("it holds something else than one array of numbers")
        return array
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise GenLangSplatError(f"{path} is truncated or no array ({error}). Run the preprocessing again.") from error


def _check(
    name: Path, maps: np.ndarray, rows: np.ndarray, photograph_size: tuple[int, int], embedding_dim: int
) -> None:
    if maps.ndim != 3 or len(maps) != len(LEVELS) + 1:
        raise GenLangSplatError(f"{name}_s.npy is {maps.shape}, expected 4 x height x width (default, s, m, l).")
    if rows.ndim != 2 or rows.shape[1] != embedding_dim:
        raise GenLangSplatError(
            f"{name}_f.npy is {rows.shape}, expected rows of the encoder's {embedding_dim} numbers. Give the folder "
            "`language_features`, not the compressed `language_features_dim3`, and the encoder it was made with."
        )
    if not np.isfinite(rows).all() or not np.isfinite(maps).all():
        raise GenLangSplatError(f"{name}_f.npy or {name}_s.npy holds values that are not finite.")
    if (maps != np.round(maps)).any() or (maps.size and not -1 <= maps.min() <= maps.max() < len(rows)):
        raise GenLangSplatError(
            f"{name}_s.npy names rows {maps.min():g} to {maps.max():g}, but {name}_f.npy has {len(rows)}."
        )
    height, width = maps.shape[1:]
    expected_width = photograph_size[0] * height / photograph_size[1]
    if not maps.size or abs(expected_width - width) > SIZE_TOLERANCE * max(1.0, height / photograph_size[1]):
        raise GenLangSplatError(
            f"{name}_s.npy is {width}x{height}, but the photograph {photograph_size[0]}x{photograph_size[1]}, which is "
            "no scaled version of it. Features belong to the photographs as the scene lists them: those of undistorted "
            "pictures need a scene of the undistorted pictures."
        )
