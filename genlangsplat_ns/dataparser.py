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
from typing import Any, Literal, get_args

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
from genlangsplat_ns.utils.files import is_file
from genlangsplat_ns.views.colmap_model import log_other_models, read_colmap, read_colmap_points
from genlangsplat_ns.views.model_folders import find_model
from genlangsplat_ns.views.posed_scene import (
    FULL_PHOTOGRAPHS,
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

PASSED_ON = ("mask_color", "depth_unit_scale_factor")
"""Settings of a format that nerfstudio's data sets find in the outputs' metadata."""


@dataclass(frozen=True)
class FrameSettings:
    """How the coordinate frame of a scene is chosen, and how its views are split; named as in nerfstudio's configs."""

    orientation_method: Literal["pca", "up", "vertical", "none"] = "none"
    center_method: Literal["poses", "focus", "none"] = "none"
    auto_scale_poses: bool = False
    scale_factor: float = 1.0
    scene_scale: float = 1.0
    eval_mode: EvalMode = "fraction"
    train_split_fraction: float = 0.9
    eval_interval: int = 8

    @classmethod
    def of(cls, config: DataParserConfig) -> FrameSettings:
        """Returns the settings of a config, with the defaults of this class for those that it has not."""
        return cls(**{item.name: getattr(config, item.name) for item in fields(cls) if hasattr(config, item.name)})


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

    def frame_settings(self) -> FrameSettings:
        """Returns the settings of frame and split."""
        return FrameSettings.of(self.config)

    @cached_property
    def scene(self) -> PosedScene:
        """The scene without unusable poses, read once for all splits."""
        return with_finite_poses(self.read())

    def _generate_dataparser_outputs(self, split: Any = "train", **kwargs: Any) -> DataparserOutputs:
        """Builds the outputs of a split."""
        scene, settings = self.scene, self.frame_settings()
        poses, transform, scale = _scene_frame(scene, settings)
        indices = split_indices([item.path for item in scene.photographs], split, scene.split_lists, settings)
        chosen = [scene.photographs[index] for index in indices]
        camera_to_worlds = poses[np.array(indices, dtype=int), :3]
        camera_to_worlds[:, :, 3] *= scale
        to_original = transform
        if scene.applied_transform is not None:
            to_original = transform @ np.vstack([scene.applied_transform, [0.0, 0.0, 0.0, 1.0]])
        scale *= scene.applied_scale
        metadata: dict[str, Any] = {PHOTOGRAPH_SCALE: scene.photograph_scale}
        metadata[FULL_PHOTOGRAPHS] = [item.full or item.path for item in chosen]
        metadata |= {name: getattr(self.config, name) for name in PASSED_ON if hasattr(self.config, name)}
        depths = [item.depth for item in chosen]
        if "depth_unit_scale_factor" in metadata:
            metadata["depth_filenames"] = depths if depths and None not in depths else None
        seeds = self._seeds(transform, to_original, scale) if split == "train" else None
        if seeds is not None:
            metadata |= {
                "points3D_xyz": torch.from_numpy(seeds.positions.astype(np.float32)),
                "points3D_rgb": torch.from_numpy(seeds.colors),
            }
        half = torch.full((3,), settings.scene_scale)
        masks = [item.mask for item in chosen]
        color = getattr(self.config, "alpha_color", None)
        return SceneOutputs(
            image_filenames=[item.path for item in chosen],
            cameras=_cameras(chosen, camera_to_worlds),
            alpha_color=None if color is None else get_color(color),
            scene_box=SceneBox(aabb=torch.stack([-half, half])),
            mask_filenames=masks if any(masks) else None,
            dataparser_scale=scale,
            dataparser_transform=torch.from_numpy(to_original),
            metadata=metadata,
        )

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
            return replace(scene, seeds=read_colmap_points(model))
        if scene.seed_file is None:
            LOGGER.warning("%s names no seed points (ply_file_path), so training starts from random points.", path)
        return scene


class ColmapScene(SceneParser):
    """Reads a COLMAP model and its photographs, where COLMAP, Inria's program, LangSplat or nerfstudio put them."""

    config: ColmapDataParserConfig

    def read(self) -> PosedScene:
        """Reads the model at the configured path, or at one of the usual ones."""
        config = self.config
        given = config.colmap_path != ColmapDataParserConfig().colmap_path
        model = find_model(config.data, config.colmap_path if given else None)
        if model is None or (given and model != config.colmap_path):
            looked = str(config.colmap_path) if given else f"{config.colmap_path}, sparse/0, sparse and colmap"
            raise GenLangSplatError(
                f"Found no COLMAP model in {config.data}; looked for cameras.bin and cameras.txt in {looked}. Give its "
                f"folder, relative to the scene: {format_option('--colmap-path FOLDER')}."
            )
        if model != config.colmap_path:
            LOGGER.info("The COLMAP model is %s.", config.data / model)
            config.colmap_path = model
        if not given:
            log_other_models(config.data, model)
        return read_colmap(config)


class InstantNgpScene(SceneParser):
    """Reads transforms.json of instant-ngp in its own coordinates, as nerfstudio's parser of that format does."""

    config: InstantNGPDataParserConfig

    def read(self) -> PosedScene:
        """Reads transforms.json in the order of its frames."""
        scene = read_transforms(transforms_path(self.config.data), 1, sort=False, skip_missing=True)
        return replace(scene, applied_transform=None)

    def frame_settings(self) -> FrameSettings:
        """Returns the settings of the config, whose scene scale is a factor on the camera positions."""
        return replace(FrameSettings.of(self.config), scale_factor=self.config.scene_scale, scene_scale=1.0)


class BlenderScene(SceneParser):
    """Reads transforms_train.json, transforms_val.json and transforms_test.json of Blender's data sets."""

    config: BlenderDataParserConfig

    def read(self) -> PosedScene:
        """Reads the files that exist; train is required."""
        data = Path(self.config.data)
        files = {split: data / f"transforms_{split}.json" for split in get_args(SplitName)}
        scenes = {
            split: read_transforms(path, 1, sort=False)
            for split, path in files.items()
            if split == "train" or is_file(path)
        }
        photographs = {item.path: item for scene in scenes.values() for item in scene.photographs}
        lists = {split: [str(item.path) for item in scene.photographs] for split, scene in scenes.items()}
        if len(lists) == 1:
            lists["val"] = []
        seed_file = None if self.config.ply_path is None else data / self.config.ply_path
        return PosedScene(list(photographs.values()), seed_file=seed_file, split_lists=lists)

    def frame_settings(self) -> FrameSettings:
        """Returns the settings of the config, with nerfstudio's fixed box."""
        return replace(FrameSettings.of(self.config), scene_scale=1.5)


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
            log_other_models(data, model)
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


def _scene_frame(
    scene: PosedScene, settings: FrameSettings
) -> tuple[Float64[np.ndarray, "num_photographs 4 4"], Float64[np.ndarray, "3 4"], float]:
    """Orients, centers and scales the poses of all photographs like nerfstudio, but in double precision.

    nerfstudio converts to single precision first, which leaves steps of centimeters in georeferenced coordinates.

    Returns:
        The oriented and centered poses, and the frame of the run: a point x of the data moves to
        scale * (transform @ x).
    """
    poses = np.array([photograph.pose for photograph in scene.photographs])
    center = poses[:, :3, 3].mean(axis=0)
    centered = poses.copy()
    centered[:, :3, 3] -= center
    method: Any = scene.orientation or settings.orientation_method
    _, transform = auto_orient_and_center_poses(
        torch.from_numpy(centered.astype(np.float32)), method=method, center_method=settings.center_method
    )
    if not bool(transform.isfinite().all()):
        raise GenLangSplatError(
            f"The cameras have no common up direction for the orientation method {method}. Choose another: "
            f"{format_option('--orientation-method none')}."
        )
    spread = float(np.abs(centered[:, :3, 3]).max())
    if settings.center_method == "none" and float(np.abs(center).max()) > 1e4 * max(spread, 1.0):
        LOGGER.warning(
            "The cameras stand around (%s) and are not centered, so single precision limits the scene. Omit "
            "--center-method none.",
            ", ".join(f"{value:.0f}" for value in center),
        )
    rotation, offset = transform[:, :3].double().numpy(), transform[:, 3].double().numpy()
    moved = np.column_stack([rotation, offset])
    if settings.center_method != "none":
        moved[:, 3] -= rotation @ center
        # Directly from the centered positions, because the offset may be large.
        poses = centered
    oriented = np.vstack([np.column_stack([rotation, offset]), [0.0, 0.0, 0.0, 1.0]]) @ poses
    farthest = float(np.abs(oriented[:, :3, 3]).max())
    scale = settings.scale_factor
    if settings.auto_scale_poses and farthest > 1e-6 + 1e-10 * float(np.abs(center).max()):
        scale /= farthest
    elif settings.auto_scale_poses:
        LOGGER.info("All cameras stand at one place, so their positions are not scaled.")
    return oriented, moved, scale


def _cameras(photographs: list[PosedPhotograph], camera_to_worlds: Float64[np.ndarray, "count 3 4"]) -> Cameras:
    lenses = [photograph.lens for photograph in photographs]
    columns: dict[str, Any] = {
        name: torch.tensor([getattr(lens, name) for lens in lenses], dtype=kind).reshape(-1, 1)
        for kind, names in ((torch.float32, ("fx", "fy", "cx", "cy")), (torch.int64, ("width", "height")))
        for name in names
    }
    return Cameras(
        distortion_params=torch.tensor([lens.distortion for lens in lenses], dtype=torch.float32).reshape(-1, 6),
        camera_to_worlds=torch.from_numpy(camera_to_worlds.astype(np.float32)),
        camera_type=torch.tensor([[lens.camera_type.value] for lens in lenses], dtype=torch.int64).reshape(-1, 1),
        **columns,
    )
