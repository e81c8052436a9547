"""Reads transforms.json of nerfstudio, instant-ngp, Blender and programs that write similar files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import reading_picture
from genlangsplat_ns.views.lenses import Lens, lens_values
from genlangsplat_ns.views.picture_files import PictureFinder, check_distinct
from genlangsplat_ns.views.posed_scene import PosedPhotograph, PosedScene, SplitName, format_option, join_names

LOGGER = logging.getLogger(__name__)

AUTOMATIC_SIDE = 1600
"""nerfstudio reads existing downscaled photographs until the long side has at most this many pixels."""

SPLIT_KEYS: dict[str, SplitName] = {
    "train_filenames": "train",
    "val_filenames": "val",
    "validation_filenames": "val",
    "eval_filenames": "val",
    "test_filenames": "test",
}
"""Keys of the lists of photographs of each split."""

COLMAP_TRANSFORM = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]])
"""The transform from COLMAP's coordinates that older versions of ns-process-data applied without writing it down."""


def read_transforms(
    path: Path, downscale: int | None = None, sort: bool = True, skip_missing: bool = False
) -> PosedScene:
    """Reads a scene from a file with poses.

    Args:
        path: The JSON file. Its pictures are looked up below its folder.
        downscale: Factor of the downscaled photographs in `images_FACTOR`; without that folder, photographs are scaled
            when they are read. None chooses existing downscaled photographs of large ones.
        sort: Sort the photographs by path, which determines the split.
        skip_missing: Leave out photographs that do not exist, and log their names.

    Raises:
        GenLangSplatError: The file is damaged, or pictures are missing.
    """
    document = read_document(path)
    root = path.parent
    finder = PictureFinder(root)
    found: list[tuple[Path, dict[str, Any]]] = []
    missing, names = [], []
    for number, frame in enumerate(document["frames"]):
        name = frame.get("file_path") if isinstance(frame, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise GenLangSplatError(f'Frame {number + 1} in {path} has no "file_path". Add it, or remove the frame.')
        picture = finder.find(name)
        if picture is None:
            missing.append(name)
        else:
            found.append((picture, {**document, **frame}))
            names.append((name, picture))
    if missing and found and skip_missing:
        LOGGER.warning("Left out %d photographs that do not exist: %s.", len(missing), join_names(missing))
    elif missing:
        raise GenLangSplatError(
            f"{len(missing)} of {len(document['frames'])} photographs listed in {path} do not exist: "
            f"{join_names(missing)}. Tried {finder.describe(missing[0])}. Restore them, or remove their frames from "
            "the list of frames."
        )
    if sort:
        found.sort(key=lambda item: item[0])
    pictures = [picture for picture, _ in found]
    check_distinct(names, path)
    downscaler = _Downscaler(root, pictures, downscale)
    masks = _Masks(root, pictures)
    photographs = [_photograph(path, picture, frame, masks, downscaler) for picture, frame in found]
    return PosedScene(
        photographs,
        _applied_transform(document, path),
        float(document.get("applied_scale", 1.0)),
        document.get("orientation_override"),
        _seed_file(root, str(document["ply_file_path"])) if document.get("ply_file_path") else None,
        split_lists={split: _split_list(document, key, path) for key, split in SPLIT_KEYS.items() if document.get(key)},
        photograph_scale=downscaler.photograph_scale,
    )


def _seed_file(root: Path, name: str) -> Path:
    """Returns the file of the seed points; an absolute path of another computer may exist beside transforms.json."""
    path = root / name.replace("\\", "/")
    return root / path.name if not path.is_file() and (root / path.name).is_file() else path


def read_document(path: Path) -> dict[str, Any]:
    """Reads a JSON file with frames.

    Raises:
        GenLangSplatError: The file is not JSON, or has no frames.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
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


def _below(root: Path, start: int) -> Callable[[Path], Path]:
    """Returns a function from a picture to its path below `root`, without the first `start` folders."""

    def place(picture: Path) -> Path:
        below = picture.relative_to(root) if picture.is_relative_to(root) else Path(picture.name)
        return Path(*below.parts[min(start, len(below.parts) - 1) :])

    return place


def _file_name(picture: Path) -> Path:
    return Path(picture.name)


class _Downscaler:
    """Chooses downscaled copies of the photographs."""

    def __init__(self, root: Path, pictures: Sequence[Path], factor: int | None) -> None:
        self._root, first = root, pictures[0]
        # The copies have all folders of the photographs, all but the first, or none, if names still differ.
        places = (_below(root, 0), _below(root, 1), _file_name)
        count = len(set(pictures))
        self._places = [place for place in places if len({place(picture) for picture in pictures}) == count]
        if factor is None:
            factor = 1
            longest = max(picture_size(first))
            while longest / factor > AUTOMATIC_SIDE and self._copy(first, f"images_{2 * factor}") is not None:
                factor *= 2
        self.factor = factor
        stored = factor == 1 or self._copy(first, f"images_{factor}") is not None
        # With a multiple of 2^-12, products with image sizes are exact.
        self.photograph_scale = 1.0 if stored else int(4096 / factor) / 4096
        self._stored = stored and factor > 1

    def _copy(self, picture: Path, folder: str) -> Path | None:
        candidates = (self._root / folder / place(picture) for place in self._places)
        return next((path for path in candidates if path.is_file()), None)

    def picture(self, picture: Path) -> Path:
        """Returns the downscaled copy of a photograph.

        Raises:
            GenLangSplatError: It is missing although other photographs have one.
        """
        if not self._stored:
            return picture
        copy = self._copy(picture, f"images_{self.factor}")
        if copy is None:
            raise GenLangSplatError(
                f"There is no downscaled copy of {picture} in {self._root / f'images_{self.factor}'}, but of others. "
                f"Add it, or use the photographs themselves: {format_option('--downscale-factor 1')}."
            )
        return copy

    def mask(self, mask: Path) -> Path:
        """Returns the downscaled copy of a mask, or the mask itself."""
        return (self._copy(mask, f"masks_{self.factor}") if self._stored else None) or mask

    def lens(self, lens: Lens) -> Lens:
        """Returns the lens of the chosen copy of a photograph."""
        return lens.divided(self.factor) if self._stored else lens


def _photograph(
    path: Path, picture: Path, frame: Mapping[str, Any], masks: _Masks, downscaler: _Downscaler
) -> PosedPhotograph:
    """Builds a photograph from a frame and the entries of the document."""
    width, height = frame.get("w"), frame.get("h")
    if width is None or height is None:
        width, height = picture_size(picture)
    try:
        width, height = int(width), int(height)
        model = str(frame.get("camera_model", "OPENCV"))
        if frame.get("is_fisheye"):
            model = "OPENCV_FISHEYE"
        lens = Lens.from_values(model, width, height, lens_values(frame, width, height))
        pose = pose_matrix(frame.get("transform_matrix"))
    except (TypeError, ValueError, GenLangSplatError) as error:
        raise GenLangSplatError(f"The frame of {picture.name} in {path} cannot be used: {error}") from error
    mask = frame.get("mask_path")
    depth = frame.get("depth_file_path")
    return PosedPhotograph(
        downscaler.picture(picture),
        pose,
        downscaler.lens(lens),
        downscaler.mask(masks.find(str(mask))) if mask else None,
        path.parent / str(depth) if depth else None,
    )


class _Masks:
    """Finds listed masks."""

    def __init__(self, root: Path, pictures: Sequence[Path]) -> None:
        self._finder = PictureFinder(root, ())
        self._pictures = set(pictures)

    def find(self, name: str) -> Path:
        """Returns the mask with a name; the path it should have if there is none, which is reported with all masks.

        A photograph is no mask, although a missing mask may have the name of one.
        """
        found = self._finder.find(name)
        if found is None or found in self._pictures:
            return self._finder.root / name.replace("\\", "/")
        return found


def _split_list(document: Mapping[str, Any], key: str, path: Path) -> list[str]:
    """Returns a list of photographs.

    Raises:
        GenLangSplatError: It is not a list of names.
    """
    names = document[key]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GenLangSplatError(f'"{key}" in {path} is no list of file names. Correct it, or remove it.')
    return names


def pose_matrix(values: Any) -> Float64[np.ndarray, "4 4"]:
    """Converts a 3x4 or 4x4 matrix of numbers.

    Raises:
        GenLangSplatError: It has another shape, or its last row is not 0, 0, 0, 1.
    """
    matrix = np.array(values if values is not None else [], dtype=np.float64)
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


def picture_size(path: Path) -> tuple[int, int]:
    """Returns the width and height of a picture, from its header."""
    advice = "Replace it, or remove its frame from the list of frames."
    with reading_picture(str(path), advice), Image.open(path) as file:
        return file.size


def _applied_transform(document: Mapping[str, Any], path: Path) -> Float64[np.ndarray, "3 4"] | None:
    """Returns the transform from the original coordinates to those of the poses."""
    if "applied_transform" in document:
        return pose_matrix(document["applied_transform"])[:3]
    return COLMAP_TRANSFORM if (path.parent / "colmap" / "sparse" / "0").is_dir() else None
