"""Parsers for the common data formats: the configs are nerfstudio's, the files are read by `views`.

nerfstudio's own parsers ask questions, need open3d, compute in single precision and refuse many files that people have.
These give the same views in the same coordinate frame.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.utils.colors import get_color
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.seed_points import read_seed_points
from genlangsplat_ns.views.colmap_model import ColmapFolders, find_model, read_colmap, read_colmap_points
from genlangsplat_ns.views.posed_scene import (
    PosedPhotograph,
    PosedScene,
    SeedPoints,
    SplitName,
    format_option,
    with_finite_poses,
)
from genlangsplat_ns.views.splits import EvalMode, split_indices
from genlangsplat_ns.views.transforms_file import read_transforms

LOGGER = logging.getLogger(__name__)

PHOTOGRAPH_SCALE = "photograph_scale"
"""Key of the outputs' metadata with the factor by which photographs and cameras are scaled when they are read."""

BLENDER_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class FrameSettings:
    """How the coordinate frame of a scene is chosen, and how its views are split; the values are nerfstudio's."""

    orientation: Literal["pca", "up", "vertical", "none"] = "none"
    center: Literal["poses", "focus", "none"] = "none"
    scale_to_unit: bool = False
    """Scale the camera positions to at most 1."""
    scale: float = 1.0
    box: float = 1.0
    """Half the side of the scene box."""
    eval_mode: EvalMode = "fraction"
    train_split_fraction: float = 0.9
    eval_interval: int = 8

    @classmethod
    def of(cls, config: NerfstudioDataParserConfig | ColmapDataParserConfig) -> FrameSettings:
        """Returns the settings of a config."""
        return cls(
            config.orientation_method,
            config.center_method,
            config.auto_scale_poses,
            config.scale_factor,
            config.scene_scale,
            config.eval_mode,
            config.train_split_fraction,
            config.eval_interval,
        )


@dataclass
class SceneOutputs(DataparserOutputs):
    """nerfstudio's outputs with a transform in double precision, because its offset may be large."""

    mask_filenames: list[Path | None] | None = None  # type: ignore[assignment]  # nerfstudio has no None.
    """The mask of each photograph, if any has one; a photograph without a mask among them is used as a whole."""

    def transform_poses_to_original_space(self, poses: Tensor, camera_convention: Any = "opencv") -> Tensor:
        """Returns the poses in the original coordinates, in double precision."""
        return super().transform_poses_to_original_space(poses.double(), camera_convention)


class SceneParser(DataParser):
    """Builds nerfstudio's outputs from a scene that `read` reads."""

    @abstractmethod
    def read(self) -> PosedScene:
        """Reads the photographs and points of the scene."""

    @abstractmethod
    def frame_settings(self) -> FrameSettings:
        """Returns the settings of frame and split."""

    @cached_property
    def scene(self) -> PosedScene:
        """The scene without unusable poses, read once for all splits."""
        return with_finite_poses(self.read())

    def _generate_dataparser_outputs(self, split: Any = "train", **kwargs: Any) -> DataparserOutputs:
        """Builds the outputs of a split."""
        scene, settings = self.scene, self.frame_settings()
        frame = _scene_frame(scene, settings)
        paths = [photograph.path for photograph in scene.photographs]
        indices = split_indices(paths, split, scene.split_lists, settings)
        chosen = [scene.photographs[index] for index in indices]
        poses = frame.scale * np.array([frame.poses[index][:3, 3] for index in indices]).reshape(-1, 3)
        camera_to_worlds = np.array([frame.poses[index][:3] for index in indices]).reshape(-1, 3, 4)
        camera_to_worlds[:, :, 3] = poses
        to_original = frame.transform
        if scene.applied_transform is not None:
            to_original = frame.transform @ np.vstack([scene.applied_transform, [0.0, 0.0, 0.0, 1.0]])
        scale = frame.scale * scene.applied_scale
        metadata: dict[str, Any] = {PHOTOGRAPH_SCALE: scene.photograph_scale, **self.metadata(chosen)}
        seeds = self._seeds(frame.transform, to_original, scale) if split == "train" else None
        if seeds is not None:
            metadata |= {
                "points3D_xyz": torch.from_numpy(seeds.positions.astype(np.float32)),
                "points3D_rgb": torch.from_numpy(seeds.colors),
            }
        half = torch.full((3,), settings.box)
        return SceneOutputs(
            image_filenames=[photograph.path for photograph in chosen],
            cameras=_cameras(chosen, camera_to_worlds),
            alpha_color=self.alpha_color(),
            scene_box=SceneBox(aabb=torch.stack([-half, half])),
            mask_filenames=[photograph.mask for photograph in chosen]
            if any(photograph.mask is not None for photograph in chosen)
            else None,
            dataparser_scale=scale,
            dataparser_transform=torch.from_numpy(to_original),
            metadata=metadata,
        )

    def metadata(self, photographs: list[PosedPhotograph]) -> dict[str, Any]:
        """Returns further entries of the outputs' metadata."""
        return {}

    def alpha_color(self) -> Any:
        """Returns the color behind transparent pixels; None leaves them transparent."""
        return None

    def _seeds(
        self, transform: Float64[np.ndarray, "3 4"], to_original: Float64[np.ndarray, "3 4"], scale: float
    ) -> SeedPoints | None:
        """Returns the seed points in the coordinate frame of the run, still in double precision."""
        scene = self.scene
        if scene.seed_file is not None:
            seeds = SeedPoints(*read_seed_points(scene.seed_file))
        elif scene.seeds is not None:
            seeds, transform = scene.seeds, to_original
        else:
            return None
        if len(seeds.positions) == 0:
            LOGGER.warning("%s has no points, so training starts from random points.", scene.seed_file)
            return None
        moved = scale * (seeds.positions @ transform[:, :3].T + transform[:, 3])
        return replace(seeds, positions=moved)


class SeedPointNerfstudio(SceneParser):
    """Reads transforms.json of nerfstudio and of programs that write similar files."""

    config: NerfstudioDataParserConfig

    def read(self) -> PosedScene:
        """Reads transforms.json; without a ply_file_path, the points of the COLMAP model beside it."""
        path = transforms_path(self.config.data)
        scene = read_transforms(path, self.config.downscale_factor)
        if not self.config.load_3D_points:
            return replace(scene, seed_file=None)
        model = path.parent / "colmap" / "sparse" / "0"
        if scene.seed_file is None and model.is_dir():
            points = read_colmap_points(model)
            return replace(scene, seeds=points)
        if scene.seed_file is None:
            LOGGER.warning("%s names no seed points (ply_file_path), so training starts from random points.", path)
        return scene

    def frame_settings(self) -> FrameSettings:
        """Returns the settings of the config."""
        return FrameSettings.of(self.config)

    def metadata(self, photographs: list[PosedPhotograph]) -> dict[str, Any]:
        """Returns depth files and the color of masked pixels."""
        return {"mask_color": self.config.mask_color, **_depths(photographs, self.config.depth_unit_scale_factor)}


class ColmapScene(SceneParser):
    """Reads a COLMAP model and its photographs, where COLMAP, Inria's program, LangSplat or nerfstudio put them."""

    config: ColmapDataParserConfig

    def read(self) -> PosedScene:
        """Reads the model at the configured path, or at one of the usual ones."""
        config = self.config
        given = config.colmap_path != ColmapDataParserConfig().colmap_path
        model = find_model(config.data, config.colmap_path)
        if model is None or (given and model != config.colmap_path):
            looked = str(config.colmap_path) if given else f"{config.colmap_path}, sparse/0, sparse and colmap"
            raise GenLangSplatError(
                f"Found no COLMAP model in {config.data}; looked for cameras.bin and cameras.txt in {looked}. Give its "
                f"folder, relative to the scene: {format_option('--colmap-path FOLDER')}."
            )
        if model != config.colmap_path:
            LOGGER.info("The COLMAP model is %s.", config.data / model)
            config.colmap_path = model
        folders = ColmapFolders(model, config.images_path, config.masks_path, config.depths_path)
        return read_colmap(
            config.data,
            folders,
            config.downscale_factor,
            config.load_3D_points,
            config.assume_colmap_world_coordinate_convention,
        )

    def frame_settings(self) -> FrameSettings:
        """Returns the settings of the config."""
        return FrameSettings.of(self.config)

    def metadata(self, photographs: list[PosedPhotograph]) -> dict[str, Any]:
        """Returns depth files."""
        return _depths(photographs, self.config.depth_unit_scale_factor)


class InstantNgpScene(SceneParser):
    """Reads transforms.json of instant-ngp in its own coordinates, as nerfstudio's parser of that format does."""

    config: InstantNGPDataParserConfig

    def read(self) -> PosedScene:
        """Reads transforms.json in the order of its frames."""
        scene = read_transforms(transforms_path(self.config.data), 1, sort=False, skip_missing=True)
        return replace(scene, applied_transform=None)

    def frame_settings(self) -> FrameSettings:
        """Returns the settings of the config."""
        config = self.config
        return FrameSettings(
            scale=config.scene_scale,
            eval_mode=config.eval_mode,
            train_split_fraction=config.train_split_fraction,
            eval_interval=config.eval_interval,
        )


class BlenderScene(SceneParser):
    """Reads transforms_train.json, transforms_val.json and transforms_test.json of Blender's data sets."""

    config: BlenderDataParserConfig

    def read(self) -> PosedScene:
        """Reads the files that exist; train is required."""
        data = Path(self.config.data)
        scenes = {
            split: read_transforms(data / f"transforms_{split}.json", 1, sort=False)
            for split in BLENDER_SPLITS
            if split == "train" or (data / f"transforms_{split}.json").is_file()
        }
        photographs = {item.path: item for scene in scenes.values() for item in scene.photographs}
        lists = {split: [str(item.path) for item in scene.photographs] for split, scene in scenes.items()}
        if len(lists) == 1:
            lists["val"] = []
        seed_file = None if self.config.ply_path is None else data / self.config.ply_path
        return PosedScene(list(photographs.values()), seed_file=seed_file, split_lists=lists)

    def frame_settings(self) -> FrameSettings:
        """Returns the settings of the config."""
        return FrameSettings(scale=self.config.scale_factor, box=1.5)

    def alpha_color(self) -> Any:
        """Returns the color behind transparent pixels."""
        return None if self.config.alpha_color is None else get_color(self.config.alpha_color)


PARSERS: dict[type[DataParserConfig], type[SceneParser]] = {
    NerfstudioDataParserConfig: SeedPointNerfstudio,
    ColmapDataParserConfig: ColmapScene,
    InstantNGPDataParserConfig: InstantNgpScene,
    BlenderDataParserConfig: BlenderScene,
}
"""The parser of this module for each of nerfstudio's configs; other formats keep nerfstudio's parser."""


def choose_parser(config: DataParserConfig) -> DataParserConfig:
    """Returns the config with the parser of this module.

    A scene in the default format without transforms.json is read as a COLMAP scene or as a Blender scene if it has
    their files.
    """
    data = Path(config.data)
    if type(config) is NerfstudioDataParserConfig and data.is_dir() and not (data / "transforms.json").is_file():
        model = find_model(data)
        if model is not None:
            LOGGER.info("%s has no transforms.json; reading the COLMAP model %s.", data, data / model)
            changed = _changed(config, ColmapDataParserConfig)
            config = ColmapDataParserConfig(data=data, colmap_path=model, **changed)
        elif (data / "transforms_train.json").is_file():
            LOGGER.info("%s has no transforms.json; reading transforms_train.json as a Blender scene.", data)
            config = BlenderDataParserConfig(data=data, scale_factor=config.scale_factor)
    parser = PARSERS.get(type(config))
    if parser is not None:
        config._target = parser
    return config


def _changed(config: DataParserConfig, kind: type[DataParserConfig]) -> dict[str, Any]:
    """Returns the settings that differ from their defaults and that another format has too."""
    default, shared = type(config)(), {item.name for item in fields(kind)} - {"_target", "data"}
    return {
        item.name: getattr(config, item.name)
        for item in fields(config)
        if item.name in shared and getattr(config, item.name) != getattr(default, item.name)
    }


def transforms_path(data: Path) -> Path:
    """Returns the file with the poses of a scene, given by its folder or by the file."""
    return data if data.suffix == ".json" else data / "transforms.json"


@dataclass(frozen=True, eq=False)
class _SceneFrame:
    """The coordinate frame of a run: a point x of the data moves to scale * (transform @ x)."""

    poses: Float64[np.ndarray, "num_photographs 4 4"]
    transform: Float64[np.ndarray, "3 4"]
    scale: float


def _scene_frame(scene: PosedScene, settings: FrameSettings) -> _SceneFrame:
    """Orients, centers and scales the poses of all photographs like nerfstudio, but in double precision.

    nerfstudio converts to single precision first, which leaves steps of centimeters in georeferenced coordinates.
    """
    poses = np.array([photograph.pose for photograph in scene.photographs])
    center = poses[:, :3, 3].mean(axis=0)
    centered = poses.copy()
    centered[:, :3, 3] -= center
    method: Any = scene.orientation or settings.orientation
    _, transform = auto_orient_and_center_poses(
        torch.from_numpy(centered.astype(np.float32)), method=method, center_method=settings.center
    )
    if not bool(transform.isfinite().all()):
        raise GenLangSplatError(
            f"The cameras have no common up direction for the orientation method {method}. Choose another: "
            f"{format_option('--orientation-method none')}."
        )
    spread = float(np.abs(centered[:, :3, 3]).max())
    if settings.center == "none" and float(np.abs(center).max()) > 1e4 * max(spread, 1.0):
        LOGGER.warning(
            "The cameras stand around (%s) and are not centered, so single precision limits the scene. Omit "
            "--center-method none.",
            ", ".join(f"{value:.0f}" for value in center),
        )
    rotation = transform[:, :3].double().numpy()
    offset = transform[:, 3].double().numpy()
    if settings.center != "none":
        offset = offset - rotation @ center
    moved = np.vstack([np.column_stack([rotation, offset]), [0.0, 0.0, 0.0, 1.0]])
    oriented = moved @ poses
    if settings.center != "none":
        # Directly from the centered positions, because the offset may be large.
        oriented[:, :3, 3] = centered[:, :3, 3] @ rotation.T + transform[:, 3].double().numpy()
    farthest = float(np.abs(oriented[:, :3, 3]).max())
    scale = settings.scale
    if settings.scale_to_unit and farthest > 1e-6 + 1e-10 * float(np.abs(center).max()):
        scale /= farthest
    elif settings.scale_to_unit:
        LOGGER.info("All cameras stand at one place, so their positions are not scaled.")
    return _SceneFrame(oriented, moved[:3], scale)


def _cameras(photographs: list[PosedPhotograph], camera_to_worlds: Float64[np.ndarray, "count 3 4"]) -> Cameras:
    lenses = [photograph.lens for photograph in photographs]

    def column(name: str, kind: torch.dtype) -> Tensor:
        return torch.tensor([getattr(lens, name) for lens in lenses], dtype=kind).reshape(-1, 1)

    return Cameras(
        fx=column("fx", torch.float32),
        fy=column("fy", torch.float32),
        cx=column("cx", torch.float32),
        cy=column("cy", torch.float32),
        width=column("width", torch.int64),
        height=column("height", torch.int64),
        distortion_params=torch.tensor([lens.distortion for lens in lenses], dtype=torch.float32).reshape(-1, 6),
        camera_to_worlds=torch.from_numpy(camera_to_worlds.astype(np.float32)),
        camera_type=torch.tensor([[lens.camera_type.value] for lens in lenses], dtype=torch.int64).reshape(-1, 1),
    )


def _depths(photographs: list[PosedPhotograph], unit: float) -> dict[str, Any]:
    files = [photograph.depth for photograph in photographs if photograph.depth is not None]
    complete = bool(files) and len(files) == len(photographs)
    return {"depth_filenames": files if complete else None, "depth_unit_scale_factor": unit}
