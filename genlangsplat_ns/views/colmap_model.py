"""Reads the photographs, cameras and points of a COLMAP model, in text or binary form."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from jaxtyping import Float64
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.lenses import UNDISTORT, Lens, undistort_advice
from genlangsplat_ns.views.masks import folder_masks
from genlangsplat_ns.views.picture_files import PictureFinder, check_distinct
from genlangsplat_ns.views.posed_scene import (
    PosedPhotograph,
    PosedScene,
    SeedPoints,
    SplitName,
    format_option,
    join_names,
)
from genlangsplat_ns.views.transforms_file import AUTOMATIC_SIDE, picture_size

LOGGER = logging.getLogger(__name__)

MODEL_FOLDERS = ("colmap/sparse/0", "sparse/0", "colmap/sparse", "sparse", "colmap", ".")
"""Where models are looked for, relative to the folder of the scene, in this order."""

SPLIT_FILES: dict[str, SplitName] = {
    "train_list.txt": "train",
    "val_list.txt": "val",
    "validation_list.txt": "val",
    "test_list.txt": "test",
}
"""Files that list the photographs of each split."""

_DAMAGED = (OSError, ValueError, LookupError, struct.error, UnicodeDecodeError, AssertionError, MemoryError)
"""Exceptions that reading a damaged model raises."""


@dataclass(frozen=True)
class ColmapFolders:
    """Where a COLMAP scene has its files, relative to the folder of the scene."""

    model: Path
    images: Path = Path("images")
    masks: Path | None = None
    depths: Path | None = None


def find_model(root: Path, preferred: Path | None = None) -> Path | None:
    """Returns the folder of the model relative to `root`: the preferred one, or the first usual one with a model."""
    candidates = [] if preferred is None else [preferred]
    return next((folder for folder in (*candidates, *map(Path, MODEL_FOLDERS)) if _has_model(root / folder)), None)


def _has_model(folder: Path) -> bool:
    return any((folder / f"cameras{suffix}").is_file() for suffix in (".txt", ".bin"))


def read_colmap(
    root: Path, folders: ColmapFolders, downscale: int | None = None, with_points: bool = True, gravity: bool = True
) -> PosedScene:
    """Reads a COLMAP scene.

    Args:
        root: The folder of the scene.
        folders: The folders of model, photographs and masks below it.
        downscale: Factor of the downscaled photographs in `images_FACTOR`; without that folder, photographs are scaled
            when they are read. None reduces photographs to at most 1,600 pixels, as nerfstudio does.
        with_points: Also read the points.
        gravity: Turn COLMAP's usual direction of gravity (y down) into nerfstudio's (z up).

    Raises:
        GenLangSplatError: The model is missing or damaged, or a lens is not supported, or pictures are missing.
    """
    model = root / folders.model
    advice = undistort_advice(str(root / folders.images), str(model), f"{root}-undistorted")
    images, lenses = _read_model(model, advice)
    finder = PictureFinder(root / folders.images, ())
    found = [(image, finder.find(image.name)) for _, image in sorted(images.items())]
    missing = [image.name for image, picture in found if picture is None]
    if missing:
        places = [path.name for path in sorted(root.iterdir()) if (path / missing[0]).is_file()]
        option = format_option(f"--images-path {quote(places[0]) if places else 'FOLDER'}")
        raise GenLangSplatError(
            f"{len(missing)} of {len(found)} photographs of the COLMAP model {model} do not exist: "
            f"{join_names(missing)}. Tried {finder.describe(missing[0])}. Restore them, or give their folder: "
            f"{option}."
        )
    check_distinct([(image.name, picture) for image, picture in found if picture is not None], model)
    factor, stored = _downscale_factor(root, folders.images, [picture for _, picture in found if picture], downscale)
    masks = _masks(root, folders.masks, [image.name for image, _ in found], factor if stored else 1)
    photographs = []
    for (image, picture), mask in zip(found, masks, strict=True):
        assert picture is not None, "checked above"
        lens = lenses[image.camera_id]
        if stored:
            picture = _copy(root, folders.images, picture, factor)
            lens = lens.divided(factor)
        depth = None if folders.depths is None else (root / folders.depths / image.name).with_suffix(".png")
        photographs.append(PosedPhotograph(picture, _pose(image, gravity), lens, mask, depth))
    return PosedScene(
        photographs,
        _gravity() if gravity else None,
        seeds=read_colmap_points(model) if with_points else None,
        split_lists=_split_lists(root),
        photograph_scale=1.0 if stored else int(4096 / factor) / 4096,
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Converts exceptions of reading a file of a model into an error that names the file."""
    try:
        yield
    except _DAMAGED as error:
        raise GenLangSplatError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected a COLMAP model with cameras, images "
            "and points3D as .bin or .txt. Export the model again."
        ) from error


def _read_model(model: Path, advice: str) -> tuple[dict[int, Any], dict[int, Lens]]:
    """Reads images and cameras; a text model wins over a binary one, as in nerfstudio."""
    text = (model / "cameras.txt").is_file()
    if not text and not (model / "cameras.bin").is_file():
        raise GenLangSplatError(
            f"{model} has no COLMAP model; expected cameras.bin or cameras.txt. Give the folder of the model: "
            f"{format_option('--colmap-path FOLDER')}."
        )
    suffix = ".txt" if text else ".bin"
    with _reading(model / f"cameras{suffix}"):
        cameras: Mapping[int, Any] = (
            colmap.read_cameras_text(model / "cameras.txt") if text else _read_cameras_binary(model / "cameras.bin")
        )
    with _reading(model / f"images{suffix}"):
        images = _read_images_text(model / "images.txt") if text else colmap.read_images_binary(model / "images.bin")
        used = {image.camera_id for image in images.values()}
        unknown = used - set(cameras)
        if unknown or not images:
            raise ValueError(f"images name unknown cameras {sorted(unknown)}" if images else "it has no images")
    lenses = {}
    for number in sorted(used):
        camera = cameras[number]
        try:
            lenses[number] = Lens.from_colmap(
                camera.model, int(camera.width), int(camera.height), camera.params.tolist(), advice
            )
        except GenLangSplatError as error:
            raise GenLangSplatError(f"Camera {number} of the COLMAP model {model} cannot be used: {error}") from error
    return images, lenses


@dataclass(frozen=True)
class _ColmapImage:
    """One line of images.txt."""

    qvec: Float64[np.ndarray, " 4"]
    tvec: Float64[np.ndarray, " 3"]
    camera_id: int
    name: str


def _read_images_text(path: Path) -> dict[int, _ColmapImage]:
    """Reads images.txt. Names may contain spaces, which nerfstudio's reader cuts off."""
    images = {}
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.split(maxsplit=9)
        if len(fields) < 10:
            raise ValueError(f"{path.name} has the line {line[:60]!r}, expected ten fields")
        values = np.array(fields[1:8], dtype=np.float64)
        images[int(fields[0])] = _ColmapImage(values[:4], values[4:], int(fields[8]), fields[9].strip())
        # The next line holds the observed points, and may be empty.
        next(lines, None)
    return images


def _read_cameras_binary(path: Path) -> dict[int, Any]:
    """Reads cameras.bin; names the camera models that are newer than nerfstudio's reader."""
    try:
        return dict(colmap.read_cameras_binary(path))
    except KeyError as error:
        raise GenLangSplatError(
            f"{path} has a camera model with the number {error}, which is not supported here. " + UNDISTORT
        ) from error


def _pose(image: Any, gravity: bool) -> Float64[np.ndarray, "4 4"]:
    """Inverts COLMAP's world-to-camera pose and converts its camera axes."""
    rotation = np.asarray(colmap.qvec2rotmat(np.asarray(image.qvec, dtype=np.float64)))
    pose = np.eye(4)
    pose[:3, :3] = rotation.T * np.array([1.0, -1.0, -1.0])
    pose[:3, 3] = -rotation.T @ np.asarray(image.tvec, dtype=np.float64)
    if gravity:
        pose[:3] = _gravity()[:, :3] @ pose[:3]
    return pose


def _gravity() -> Float64[np.ndarray, "3 4"]:
    return np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])


def read_colmap_points(model: Path) -> SeedPoints | None:
    """Reads the points of a model, in its coordinates; None if it has none."""
    try:
        if (model / "points3D.bin").is_file():
            points: Mapping[int, Any] = colmap.read_points3D_binary(model / "points3D.bin")
        elif (model / "points3D.txt").is_file():
            points = colmap.read_points3D_text(model / "points3D.txt")
        else:
            LOGGER.warning("%s has no points3D, so training starts from random points.", model)
            return None
    except _DAMAGED as error:
        raise GenLangSplatError(
            f"The points of the COLMAP model {model} cannot be read ({type(error).__name__}: {error}). Export the "
            "model again."
        ) from error
    if not points:
        LOGGER.warning("%s has no points, so training starts from random points.", model)
        return None
    positions = np.array([point.xyz for point in points.values()], dtype=np.float64)
    return SeedPoints(positions, np.array([point.rgb for point in points.values()], dtype=np.uint8))


def _split_lists(root: Path) -> dict[SplitName, list[str]]:
    lists: dict[SplitName, list[str]] = {}
    for name, split in SPLIT_FILES.items():
        if (root / name).is_file():
            lines = [line.strip() for line in (root / name).read_text(encoding="utf-8-sig").splitlines()]
            lists[split] = [line for line in lines if line and not line.startswith("#")]
    return {split: names for split, names in lists.items() if names}


def _masks(root: Path, folder: Path | None, names: list[str], factor: int) -> list[Path | None]:
    """Returns the masks of photographs, from the folder of downscaled masks if there is one."""
    if folder is None:
        if (root / "masks").is_dir():
            option = format_option("--masks-path masks")
            LOGGER.warning("The folder %s is not used. To use it, give %s.", root / "masks", option)
        return [None] * len(names)
    downscaled = [(root / folder).with_name(f"{folder.name}_{factor}")] if factor > 1 else []
    return folder_masks([*downscaled, root / folder], [Path(name.replace("\\", "/")) for name in names])


def _downscale_factor(root: Path, images: Path, pictures: list[Path], downscale: int | None) -> tuple[int, bool]:
    """Returns the factor, and whether downscaled photographs are stored."""
    factor = downscale or 1
    if downscale is None:
        while max(picture_size(pictures[0])) / factor > AUTOMATIC_SIDE:
            factor *= 2
    inside = all(picture.is_relative_to(root / images) for picture in pictures)
    stored = factor > 1 and inside and _copy(root, images, pictures[0], factor).is_file()
    if factor > 1 and not stored:
        LOGGER.info(
            "There is no %s for all photographs, so these are scaled by 1/%d when they are read. Other sizes: %s.",
            root / f"{images}_{factor}",
            factor,
            format_option("--downscale-factor FACTOR"),
        )
    return factor, stored


def _copy(root: Path, images: Path, picture: Path, factor: int) -> Path:
    """Returns the path of the downscaled copy of a photograph."""
    folder = root / images
    return folder.with_name(f"{folder.name}_{factor}") / picture.relative_to(folder)
