"""Undistorted views and what their regions mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from torch import Tensor

from genlangsplat_ns.dataparser import SeedPointNerfstudio
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import resized_mask
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.features.store import FeatureStore, ViewFeatures
from genlangsplat_ns.views.cameras import undistort_points
from genlangsplat_ns.views.dataset import ViewDataset
from genlangsplat_ns.views.settings import ViewSize

Split = Literal["train", "eval"]


@dataclass
class GenLangSplatDataManagerConfig(FeatureSettings, ViewSize, FullImageDatamanagerConfig):
    """Where views and their language features come from."""

    _target: type = field(default_factory=lambda: GenLangSplatDataManager)
    """target class to instantiate"""


class ViewImages(Sequence[tuple[str, Tensor]]):
    """Views as (file name, RGB picture), read when asked for."""

    def __init__(self, datamanager: GenLangSplatDataManager, views: Sequence[tuple[Split, int]]) -> None:
        self.datamanager = datamanager
        self.views = views

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: Any) -> Any:
        split, number = self.views[index]
        return self.datamanager.view_name(split, number), self.datamanager.image(split, number)


class GenLangSplatDataManager(FullImageDatamanager):
    """FullImageDatamanager that extracts, keeps and serves language features of the views it undistorts."""

    config: GenLangSplatDataManagerConfig
    train_dataset: ViewDataset
    eval_dataset: ViewDataset

    def __init__(
        self,
        config: GenLangSplatDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        *,
        extractor: FeatureExtractor,
        **kwargs: Any,
    ) -> None:
        if not torch.cuda.is_available():
            # The cpu cache pins memory, which needs CUDA; the gpu cache stays on the device, which is the CPU here.
            config.cache_images = "gpu"
        _check_data_folder(config)
        if isinstance(config.dataparser, NerfstudioDataParserConfig):
            config.dataparser._target = SeedPointNerfstudio
        try:
            super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
        except FileNotFoundError as error:
            raise GenLangSplatError(
                f"The data names a file that does not exist: {error.filename}. Put it back, or take its frame out."
            ) from error
        except (AssertionError, LookupError, ValueError) as error:
            # What nerfstudio's parsers raise for files that are not of their format.
            raise GenLangSplatError(
                f"{config.dataparser.data} cannot be read in the format of {type(config.dataparser).__name__} "
                f"({type(error).__name__}: {error}). Check the file of its cameras, or name another format."
            ) from error
        except OSError as error:
            # nerfstudio's parsers open one picture to learn its size.
            raise GenLangSplatError(
                f"A file of the data cannot be read ({error}). Replace it, or take its frame out of the data's list."
            ) from error
        if not torch.cuda.is_available():
            # More than 500 views make nerfstudio choose the cpu cache again.
            config.cache_images = "gpu"
        self._check_images()
        self.extractor = extractor
        self._language_keys: dict[tuple[Split, int], str] = {}

    # Views

    def dataset(self, split: Split) -> ViewDataset:
        """Returns the dataset of a split."""
        return self.train_dataset if split == "train" else self.eval_dataset

    def view_name(self, split: Split, index: int) -> str:
        """Returns the file name of a view."""
        return self.dataset(split).image_filenames[index].name

    def image(self, split: Split, index: int) -> UInt8[Tensor, "height width 3"]:
        """Returns an undistorted view in RGB: of the pictures kept for training, or read for this once."""
        kept = f"cached_{split}"
        if kept not in self.__dict__:
            return self.dataset(split).undistorted_view(index, self.config.cache_images_type)
        image = self.__dict__[kept][index]["image"][..., :3]
        return image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)

    def camera(self, split: Split, index: int) -> Cameras:
        """Returns the camera of an undistorted view, on the device."""
        # Undistorting rewrites the cameras, so the pictures come first.
        _ = self.cached_train if split == "train" else self.cached_eval
        camera = self.dataset(split).cameras[index : index + 1].to(self.device)
        if split == "train":
            # As in `next_train`: by its number the camera optimizer knows a view.
            camera.metadata = {"cam_idx": index}
        return camera

    def undistort(self, split: Split, index: int, points: Any, size: tuple[int, int]) -> Any:
        """Moves points marked on the raw photograph (resized to `size`) to the undistorted view."""
        raw = self.dataset(split).raw_cameras[index]
        return undistort_points(points, size, raw, self.camera(split, index)[0])

    def undistort_mask(self, split: Split, index: int, mask: Any) -> Any:
        """Moves a mask of the raw photograph, at whatever size, to the undistorted view."""
        raw = resized_mask(mask, *self.raw_size(split, index)).astype(np.float32)
        # Undistorting interpolates between on and off.
        return self.dataset(split).undistort(index, raw[..., None].repeat(3, axis=-1))[..., 0] > 0.5

    def raw_size(self, split: Split, index: int) -> tuple[int, int]:
        """Width and height of a photograph before it is undistorted."""
        raw = self.dataset(split).raw_cameras[index]
        return int(raw.width), int(raw.height)

    def create_train_dataset(self) -> ViewDataset:
        """Sets up the training views at the capped size."""
        return self._dataset_of("train")

    def create_eval_dataset(self) -> ViewDataset:
        """Sets up the held-out views at the capped size."""
        return self._dataset_of(self.test_split)

    def _dataset_of(self, split: str) -> ViewDataset:
        outputs = self.train_dataparser_outputs
        if split != "train":
            outputs = self.dataparser.get_dataparser_outputs(split=split)
        scale = self.config.camera_res_scale_factor
        if self.config.max_image_side is not None and len(outputs.cameras) > 0:
            longest = int(torch.maximum(outputs.cameras.width, outputs.cameras.height).max())
            scale = min(scale, _scale_to(longest, self.config.max_image_side))
        return ViewDataset(outputs, scale)

    def _load_images(self, split: Split, cache_images_device: Literal["cpu", "gpu"]) -> list[dict[str, Any]]:
        """Undistorts the views of a split; afterwards those of a fisheye lens are perspective ones, which is theirs."""
        images = super()._load_images(split, cache_images_device)
        cameras = self.dataset(split).cameras
        if cameras.distortion_params is not None:
            bent = cameras.distortion_params.any(dim=-1, keepdim=True)
            rectified = bent & (cameras.camera_type == CameraType.FISHEYE.value)
            cameras.camera_type = torch.where(rectified, CameraType.PERSPECTIVE.value, cameras.camera_type)
        if split == "train":
            self.train_cameras = cameras.to(self.device)
        return images

    def _check_images(self) -> None:
        """Raises when listed photographs are absent, before anything expensive begins."""
        listed = [name for split in ("train", "eval") for name in self.dataset(split).image_filenames]
        missing = [str(name) for name in listed if not name.is_file()]
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise GenLangSplatError(
                f"{len(missing)} of {len(listed)} listed images do not exist: {shown}. Put them back, or take their "
                "frames out of the data's list (transforms.json)."
            )

    # Language features

    @cached_property
    def store(self) -> FeatureStore:
        """The feature store beside the data."""
        root = Path(self.config.dataparser.data)
        return self.extractor.open_store(root if root.is_dir() else root.parent)

    def prepare_language(self) -> None:
        """Extracts the features of all views that the store does not have; a missing weight shows here, not later."""
        # Training keeps the pictures, and reading them before saves reading them twice.
        for split in self.splits:
            _ = getattr(self, f"cached_{split}")
        self.extract()
        self.extractor.release()

    @property
    def splits(self) -> list[Split]:
        """The splits that have views."""
        return [split for split in ("train", "eval") if len(self.dataset(split)) > 0]

    def all_views(self) -> list[tuple[Split, int]]:
        """Split and index of every view."""
        return [(split, index) for split in self.splits for index in range(len(self.dataset(split)))]

    def extract(self, limit: int | None = None) -> list[tuple[Split, int]]:
        """Extracts the features of views that the store does not have.

        Args:
            limit: Only the first so many views of the scene; None for all.

        Returns:
            Split and index of the views looked at.
        """
        views = self.all_views()[:limit]
        keys = self.extractor.extract(ViewImages(self, views), self.store)
        self._language_keys |= dict(zip(views, keys, strict=True))
        return views

    def language_key(self, split: Split, index: int) -> str:
        """Returns the key of a view in the feature store, extracting its features when they are not there."""
        view = (split, index)
        if view not in self._language_keys:
            (self._language_keys[view],) = self.extractor.extract(ViewImages(self, [view]), self.store)
        return self._language_keys[view]

    def language_features(self, split: Split, index: int) -> ViewFeatures:
        """Loads the regions and embeddings of a view, extracting them when they are not in the store."""
        return self.store.load(self.language_key(split, index))


def _scale_to(longest: int, side: int) -> float:
    """The factor that brings a side down to at most `side` pixels, rounded as nerfstudio rounds it."""
    if longest <= side:
        return 1.0
    # nerfstudio sizes the picture in double precision and the camera in single precision; a factor that is a multiple
    # of 2^-12 keeps both products exact, so that they round down to the same number of pixels.
    return int(side / longest * 4096) / 4096


def _check_data_folder(config: GenLangSplatDataManagerConfig) -> None:
    """Raises when there is nothing to train on."""
    if config.max_image_side is not None and config.max_image_side < 1:
        raise GenLangSplatError(f"The longest side is to have {config.max_image_side} pixels; give at least 1.")
    data = Path(config.data or config.dataparser.data)
    if not data.exists():
        raise GenLangSplatError(f"The data folder {data} does not exist. Give --data a folder of posed photographs.")
    if data.is_dir() and not any(data.iterdir()):
        raise GenLangSplatError(f"The data folder {data} is empty. Expected posed photographs and their cameras.")
    expects_json = isinstance(config.dataparser, NerfstudioDataParserConfig) and data.is_dir()
    if expects_json and not (data / "transforms.json").is_file():
        raise GenLangSplatError(
            f"{data} has no transforms.json. Make one from photographs with `ns-process-data images --data PHOTOS "
            f"--output-dir {data}`, or name the data's format: `colmap` after the method in ns-train, `--data-format "
            "colmap` elsewhere."
        )
