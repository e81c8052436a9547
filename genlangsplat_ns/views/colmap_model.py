"""Reads the photographs, cameras and points of a COLMAP model, in text or binary form."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from jaxtyping import Float64
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.downscaling import Downscaler
from genlangsplat_ns.views.lenses import UNDISTORT, Lens, undistort_advice
from genlangsplat_ns.views.masks import folder_masks
from genlangsplat_ns.views.model_folders import sizes_of_models
from genlangsplat_ns.views.picture_files import PictureFinder, check_distinct
from genlangsplat_ns.views.posed_scene import (
    PosedPhotograph,
    PosedScene,
    SeedPoints,
    SplitName,
    format_option,
    join_names,
)

LOGGER = logging.getLogger(__name__)

BINARY_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    ("SIMPLE_DIVISION", 4),
    ("DIVISION", 5),
    ("SIMPLE_FISHEYE", 3),
    ("FISHEYE", 4),
    ("EUCM", 6),
    ("EQUIRECTANGULAR", 2),
)
"""Names and numbers of parameters of the camera models in binary files, by their number, up to COLMAP 4.2."""

SPLIT_FILES: dict[str, SplitName] = {
    "train_list.txt": "train",
    "val_list.txt": "val",
    "validation_list.txt": "val",
    "test_list.txt": "test",
}
"""Files that list the photographs of each split."""

GRAVITY = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])
"""The transform that turns COLMAP's usual direction of gravity (y down) into nerfstudio's (z up)."""


def read_colmap(config: ColmapDataParserConfig) -> PosedScene:
    """Reads a COLMAP scene by nerfstudio's settings.

    Without downscaled photographs of the wanted size, the photographs are scaled when they are read.

    Raises:
        GenLangSplatError: The model is damaged, or a lens is not supported, or pictures are missing.
    """
    root, model, folder = config.data, config.data / config.colmap_path, config.data / config.images_path
    images, lenses = _read_model(model, undistort_advice(str(folder), str(model), f"{root}-undistorted"))
    finder = PictureFinder(folder, ())
    names = [image.name for image in images]
    found = {name: picture for name in names if (picture := finder.find(name)) is not None}
    missing = [name for name in names if name not in found]
    if missing:
        places = [path.name for path in sorted(root.iterdir()) if (path / missing[0]).is_file()]
        option = format_option(f"--images-path {quote(places[0]) if places else 'FOLDER'}")
        raise GenLangSplatError(
            f"{len(missing)} of {len(names)} photographs of the COLMAP model {model} do not exist: "
            f"{join_names(missing)}. Tried {finder.describe(missing[0])}. Restore them, or give their folder: "
            f"{option}."
        )
    check_distinct(list(found.items()), model)
    downscaler = Downscaler(folder, folder, list(found.values()), config.downscale_factor, only_copies=False)
    masks = _masks(root, config.masks_path, names, downscaler.factor if downscaler.stored else 1)
    gravity = config.assume_colmap_world_coordinate_convention
    photographs = []
    for image, mask in zip(images, masks, strict=True):
        picture, lens = downscaler.picture(found[image.name]), downscaler.lens(lenses[image.camera_id])
        depth = None if config.depths_path is None else (root / config.depths_path / image.name).with_suffix(".png")
        photographs.append(PosedPhotograph(picture, _pose(image, gravity), lens, mask, depth, found[image.name]))
    return PosedScene(
        photographs,
        GRAVITY if gravity else None,
        seeds=read_colmap_points(model) if config.load_3D_points else None,
        split_lists=_split_lists(root),
        photograph_scale=downscaler.photograph_scale,
    )


@cache
def log_other_models(root: Path, model: Path) -> None:
    """Warns of models beside the one that was chosen, whose photographs are not used; once for each scene."""
    sizes = sizes_of_models(root, model)
    others = [f"{folder} ({size})" for folder, size in sizes.items() if folder != model]
    if others:
        LOGGER.warning(
            "%s has %d models of COLMAP that are not connected. The largest is used, %s with %d photographs, and not "
            "%s. To use another: %s.",
            *(root, len(sizes), model, sizes[model], ", ".join(others), format_option("--colmap-path FOLDER")),
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Converts exceptions of reading a file of a model into an error that names the file."""
    try:
        yield
    except (OSError, ValueError, LookupError, struct.error, AssertionError, MemoryError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected a COLMAP model with cameras, images "
            "and points3D as .bin or .txt. Export the model again."
        ) from error


def _read_model(model: Path, advice: str) -> tuple[list[Any], dict[int, Lens]]:
    """Reads images and cameras; a text model wins over a binary one, as in nerfstudio."""
    text = (model / "cameras.txt").is_file()
    cameras_file, images_file = (model / f"{name}.{'txt' if text else 'bin'}" for name in ("cameras", "images"))
    with _reading(cameras_file):
        cameras: Mapping[int, Any] = (colmap.read_cameras_text if text else _read_cameras_binary)(cameras_file)
    with _reading(images_file):
        images: Mapping[int, Any] = (_read_images_text if text else colmap.read_images_binary)(images_file)
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
    return [image for _, image in sorted(images.items())], lenses


def _read_images_text(path: Path) -> dict[int, Any]:
    """Reads images.txt. Names may contain spaces, which nerfstudio's reader cuts off."""
    images = {}
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.split(maxsplit=9)
        if len(fields) < 10:
            raise ValueError(f"{path.name} has the line {line[:60]!r}, expected ten fields")
        number, values = int(fields[0]), np.array(fields[1:8], dtype=np.float64)
        images[number] = colmap.Image(number, values[:4], values[4:], int(fields[8]), fields[9].strip(), (), ())
        # The next line holds the observed points, and may be empty.
        next(lines, None)
    return images


def _read_cameras_binary(path: Path) -> dict[int, Any]:
    """Reads cameras.bin of any version, whose camera models are numbers.

    nerfstudio's reader stops at the models of COLMAP 3.
    """
    cameras = {}
    with path.open("rb") as file:
        (count,) = struct.unpack("<Q", file.read(8))
        for _ in range(count):
            number, kind, width, height = struct.unpack("<iiQQ", file.read(24))
            if not 0 <= kind < len(BINARY_MODELS):
                raise GenLangSplatError(
                    f"{path} has a camera model with the number {kind}, which is not supported here. " + UNDISTORT
                )
            model, terms = BINARY_MODELS[kind]
            parameters = struct.unpack(f"<{terms}d", file.read(8 * terms))
            cameras[number] = colmap.Camera(number, model, width, height, np.array(parameters))
    return cameras


def _pose(image: Any, gravity: bool) -> Float64[np.ndarray, "4 4"]:
    """Inverts COLMAP's world-to-camera pose and converts its camera axes."""
    rotation = np.asarray(colmap.qvec2rotmat(np.asarray(image.qvec, dtype=np.float64)))
    pose = np.eye(4)
    pose[:3, :3] = rotation.T * np.array([1.0, -1.0, -1.0])
    pose[:3, 3] = -rotation.T @ np.asarray(image.tvec, dtype=np.float64)
    if gravity:
        pose[:3] = GRAVITY[:, :3] @ pose[:3]
    return pose


def read_colmap_points(model: Path) -> SeedPoints | None:
    """Reads the points of a model, in its coordinates; None if it has none."""
    readers = {"points3D.bin": colmap.read_points3D_binary, "points3D.txt": colmap.read_points3D_text}
    name = next((name for name in readers if (model / name).is_file()), None)
    points: Mapping[int, Any] = {}
    if name is not None:
        with _reading(model / name):
            points = readers[name](model / name)
    if not points:
        LOGGER.warning("%s has no points%s, so training starts from random points.", model, "" if name else "3D")
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
