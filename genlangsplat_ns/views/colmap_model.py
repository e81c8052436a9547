"""Reads the photographs, cameras and points of a COLMAP model, in text or binary form."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from shlex import quote

import numpy as np
from jaxtyping import Float64
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from scipy.spatial.transform import Rotation

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import is_file
from genlangsplat_ns.views.colmap_files import (
    ColmapImage,
    UnknownModelError,
    read_cameras,
    read_images,
    read_points,
)
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
        places = [path.name for path in sorted(root.iterdir()) if is_file(path / missing[0])]
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
        picture, lens = downscaler.picture(found[image.name]), downscaler.lens(lenses[image.camera])
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
    except UnknownModelError as error:
        raise GenLangSplatError(f"{path} cannot be used: {error}. {UNDISTORT}") from error
    except (OSError, ValueError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected a COLMAP model with cameras, images "
            "and points3D as .bin or .txt. Export the model again."
        ) from error


@contextmanager
def _reading_list(path: Path) -> Iterator[None]:
    """Converts exceptions of reading a list of names into an error that names the file."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise GenLangSplatError(
            f"The list {path} cannot be read ({error}); expected a UTF-8 text with one file name per line. Save it so, "
            "or remove it."
        ) from error


def _read_model(model: Path, advice: str) -> tuple[list[ColmapImage], dict[int, Lens]]:
    """Reads images and cameras; a text model wins over a binary one, as in nerfstudio."""
    text = (model / "cameras.txt").is_file()
    cameras_file, images_file = (model / f"{name}.{'txt' if text else 'bin'}" for name in ("cameras", "images"))
    with _reading(cameras_file):
        cameras = read_cameras(cameras_file)
    with _reading(images_file):
        images = read_images(images_file)
        used = {image.camera for image in images.values()}
        unknown = used - set(cameras)
        if unknown or not images:
            raise ValueError(f"images name unknown cameras {sorted(unknown)}" if images else "it has no images")
    lenses = {}
    for number in sorted(used):
        camera = cameras[number]
        try:
            lenses[number] = Lens.from_colmap(camera.model, camera.width, camera.height, camera.parameters, advice)
        except GenLangSplatError as error:
            raise GenLangSplatError(f"Camera {number} of the COLMAP model {model} cannot be used: {error}") from error
    return [image for _, image in sorted(images.items())], lenses


def _pose(image: ColmapImage, gravity: bool) -> Float64[np.ndarray, "4 4"]:
    """Inverts COLMAP's world-to-camera pose and converts its camera axes."""
    w, x, y, z = image.rotation
    rotation = Rotation.from_quat((x, y, z, w)).as_matrix()
    pose = np.eye(4)
    pose[:3, :3] = rotation.T * np.array([1.0, -1.0, -1.0])
    pose[:3, 3] = -rotation.T @ np.array(image.translation)
    if gravity:
        pose[:3] = GRAVITY[:, :3] @ pose[:3]
    return pose


def read_colmap_points(model: Path) -> SeedPoints | None:
    """Reads the points of a model, in its coordinates; None if it has none."""
    name = next((name for name in ("points3D.bin", "points3D.txt") if (model / name).is_file()), None)
    positions, colors = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    if name is not None:
        with _reading(model / name):
            positions, colors = read_points(model / name)
    if not len(positions):
        LOGGER.warning("%s has no points%s, so training starts from random points.", model, "" if name else "3D")
        return None
    return SeedPoints(positions, colors)


def _split_lists(root: Path) -> dict[SplitName, list[str]]:
    lists: dict[SplitName, list[str]] = {}
    for name, split in SPLIT_FILES.items():
        if (root / name).is_file():
            with _reading_list(root / name):
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
