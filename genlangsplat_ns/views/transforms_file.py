"""Reads transforms.json of nerfstudio, instant-ngp, Blender and programs that write similar files."""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import is_file
from genlangsplat_ns.utils.json_files import lenient_number_of, number_of, read_json
from genlangsplat_ns.views.downscaling import Downscaler, picture_size
from genlangsplat_ns.views.lenses import Lens, lens_values
from genlangsplat_ns.views.picture_files import PictureFinder, check_distinct
from genlangsplat_ns.views.posed_scene import PosedPhotograph, PosedScene, SplitName, join_names

LOGGER = logging.getLogger(__name__)

SPLIT_KEYS: dict[str, SplitName] = {
    "train_filenames": "train",
    "val_filenames": "val",
    "validation_filenames": "val",
    "eval_filenames": "val",
    "test_filenames": "test",
}
"""Keys of the lists of photographs of each split."""

ORIENTATIONS = ("pca", "up", "vertical", "none")
"""What a file may ask for in `orientation_override`."""

MAX_SIDE = 1 << 20
"""Pixels of a side of a photograph; more are damage."""

COLMAP_TRANSFORM = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]])
"""The transform from COLMAP's coordinates that older versions of ns-process-data applied without writing it down."""


def read_transforms(
    path: Path, downscale: int | None = None, sort: bool = True, skip_missing: bool = False
) -> PosedScene:
    """Reads a scene from a JSON file with poses, whose pictures are looked up below its folder.

    Args:
        path: The file.
        downscale: Factor of the photographs; None chooses existing downscaled photographs of large ones.
        sort: Sort the photographs by path, which determines the split.
        skip_missing: Leave out photographs that do not exist, and log their names.

    Raises:
        GenLangSplatError: The file is damaged, or pictures are missing.
    """
    document = _read_document(path)
    root = path.parent
    finder = PictureFinder(root)
    found: list[tuple[Path, ChainMap[str, Any]]] = []
    missing = []
    for number, frame in enumerate(document["frames"]):
        name = frame.get("file_path") if isinstance(frame, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise GenLangSplatError(f'Frame {number + 1} in {path} has no "file_path". Add it, or remove the frame.')
        picture = finder.find(name)
        if picture is None:
            missing.append(name)
        else:
            found.append((picture, ChainMap(frame, document)))
    if missing and found and skip_missing:
        LOGGER.warning("Left out %d photographs that do not exist: %s.", len(missing), join_names(missing))
    elif missing:
        raise GenLangSplatError(
            f"{len(missing)} of {len(document['frames'])} photographs listed in {path} do not exist: "
            f"{join_names(missing)}. Tried {finder.describe(missing[0])}. Restore them, or remove their frames from "
            "the list of frames."
        )
    check_distinct([(frame["file_path"], picture) for picture, frame in found], path)
    if sort:
        found.sort(key=lambda item: item[0])
    pictures = [picture for picture, _ in found]
    downscaler = Downscaler(root, root / "images", pictures, downscale, only_copies=True)
    masks, known = PictureFinder(root, ()), set(pictures)
    photographs = []
    for picture, frame in found:
        photograph, listed = _photograph(path, picture, frame), frame.get("mask_path")
        mask = downscaler.mask(_find_mask(masks, known, str(listed))) if listed else None
        copy, lens = downscaler.picture(picture), downscaler.lens(photograph.lens)
        photographs.append(replace(photograph, path=copy, lens=lens, mask=mask, full=picture))
    return PosedScene(
        photographs,
        _applied_transform(document, path),
        _applied_scale(document, path),
        _orientation(document, path),
        _seed_file(root, str(document["ply_file_path"])) if document.get("ply_file_path") else None,
        split_lists={split: _split_list(document, key, path) for key, split in SPLIT_KEYS.items() if document.get(key)},
        photograph_scale=downscaler.photograph_scale,
    )


def _seed_file(root: Path, name: str) -> Path:
    """Returns the file of the seed points; an absolute path of another computer may exist beside transforms.json."""
    path = root / name.replace("\\", "/")
    return root / path.name if not is_file(path) and is_file(root / path.name) else path


def _read_document(path: Path) -> dict[str, Any]:
    """Reads a JSON file with frames."""
    try:
        document = read_json(path, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise GenLangSplatError(f"{path} is not in UTF-8 ({error}). Save it in this encoding.") from error
    except (OSError, ValueError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as JSON ({error}); expected frames with file_path and transform_matrix. Repair it, "
            "or create it again."
        ) from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not frames:
        keys = join_names(list(document)) if isinstance(document, dict) else type(document).__name__
        raise GenLangSplatError(
            f'{path} has no list "frames" (found {keys or "nothing"}); expected one entry with file_path and '
            "transform_matrix per photograph. Create the file again."
        )
    return dict(document)


def _photograph(path: Path, picture: Path, frame: Mapping[str, Any]) -> PosedPhotograph:
    """Builds a photograph from a frame and the entries of the document, at its full size and without its mask."""
    width, height = frame.get("w"), frame.get("h")
    if width is None or height is None:
        width, height = picture_size(picture)
    try:
        width, height = (
            int(number_of(lenient_number_of(side, name), name)) for side, name in ((width, "w"), (height, "h"))
        )
        if max(width, height) > MAX_SIDE:
            raise GenLangSplatError(f"its size is {width}x{height}, expected at most {MAX_SIDE:,} pixels a side.")
        model = "OPENCV_FISHEYE" if frame.get("is_fisheye") else str(frame.get("camera_model", "OPENCV"))
        lens = Lens.from_values(model, width, height, lens_values(frame, width, height))
        pose = _pose_matrix(frame.get("transform_matrix"))
    except (ValueError, GenLangSplatError) as error:
        advice = "" if isinstance(error, GenLangSplatError) else ". Correct it."
        raise GenLangSplatError(f"The frame of {picture.name} in {path} cannot be used: {error}{advice}") from error
    depth = frame.get("depth_file_path")
    return PosedPhotograph(picture, pose, lens, depth=path.parent / str(depth) if depth else None)


def _find_mask(finder: PictureFinder, pictures: Collection[Path], name: str) -> Path:
    """Returns the mask with a name; the path it should have if there is none, which is reported with all masks.

    A photograph is no mask, although a missing mask may have the name of one.
    """
    found = finder.find(name)
    return finder.root / name.replace("\\", "/") if found is None or found in pictures else found


def _split_list(document: Mapping[str, Any], key: str, path: Path) -> list[str]:
    names = document[key]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GenLangSplatError(f'"{key}" in {path} is no list of file names. Correct it, or remove it.')
    return names


def _pose_matrix(values: Any) -> Float64[np.ndarray, "4 4"]:
    """Converts a 3x4 or 4x4 matrix of numbers, whose last row must be 0, 0, 0, 1."""
    matrix = _matrix(values)
    last = np.array([0.0, 0.0, 0.0, 1.0])
    if matrix.shape not in ((3, 4), (4, 4)):
        raise GenLangSplatError(
            f"its transform_matrix has the shape {matrix.shape}, expected 4x4 or 3x4 (camera to world)."
        )
    if len(matrix) == 4 and np.isfinite(matrix).all() and not np.allclose(matrix[3], last, atol=1e-3):
        row = ", ".join(f"{value:.3g}" for value in matrix[3])
        cause = " It is transposed." if np.allclose(matrix[:, 3], last, atol=1e-3) else ""
        raise GenLangSplatError(f"the last row of its transform_matrix is {row}, expected 0, 0, 0, 1.{cause}")
    return np.vstack([matrix[:3], last])


def _matrix(values: Any) -> Float64[np.ndarray, ...]:
    """Converts lists of lists of numbers, which may be NaN or infinite; others become an array of another shape."""
    rows = values if isinstance(values, list) else []
    if not all(isinstance(row, list) for row in rows) or len({len(row) for row in rows}) > 1:
        return np.zeros(0)
    try:
        numbers = [[lenient_number_of(value, "a number") for value in row] for row in rows]
    except ValueError as error:
        raise GenLangSplatError(f"its transform_matrix has something else than numbers: {error}.") from error
    return np.array(numbers, dtype=np.float64)


def _applied_scale(document: Mapping[str, Any], path: Path) -> float:
    try:
        scale = number_of(document.get("applied_scale", 1.0), "applied_scale")
    except ValueError as error:
        raise GenLangSplatError(f"{path} cannot be used: {error}. Correct it, or remove it.") from error
    if not scale > 0:
        raise GenLangSplatError(f"{path} has the applied_scale {scale:g}, expected a positive number. Correct it.")
    return scale


def _orientation(document: Mapping[str, Any], path: Path) -> str | None:
    """Returns the orientation that the file asks for instead of that of the settings."""
    orientation = document.get("orientation_override")
    if orientation is not None and orientation not in ORIENTATIONS:
        raise GenLangSplatError(
            f"{path} has the orientation_override {str(orientation)[:40]!r}, expected one of "
            f"{', '.join(ORIENTATIONS)}. Correct it, or remove it."
        )
    return orientation


def _applied_transform(document: Mapping[str, Any], path: Path) -> Float64[np.ndarray, "3 4"] | None:
    """Returns the transform from the original coordinates to those of the poses."""
    if "applied_transform" in document:
        try:
            return _pose_matrix(document["applied_transform"])[:3]
        except GenLangSplatError as error:
            problem = str(error).replace("transform_matrix", "applied_transform")
            raise GenLangSplatError(f"{path} cannot be used: {problem} Correct it, or remove it.") from error
    return COLMAP_TRANSFORM if (path.parent / "colmap" / "sparse" / "0").is_dir() else None
