"""Undistorted views and what their regions mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from genlangsplat_ns.cameras import undistort_points
from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.dataparser import SeedPointNerfstudio
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import encoder_embedding_dim, encoder_identity, load_encoder
from genlangsplat_ns.features.extract import extract_features
from genlangsplat_ns.features.masks import load_mask_generator
from genlangsplat_ns.features.store import FeatureStore, ViewFeatures

Split = Literal["train", "eval"]


@dataclass
class GenLangSplatDataManagerConfig(FullImageDatamanagerConfig):
    """Where views and their language features come from."""

    _target: type = field(default_factory=lambda: GenLangSplatDataManager)
    """target class to instantiate"""
    encoder: Literal["auto", "conse"] = "auto"
    """Image-text encoder: conse is embedded and needs no download; auto takes the best one that is installed."""
    masks: Literal["auto", "watershed"] = "auto"
    """Mask generator: watershed needs no weights; auto takes the best one that is installed."""
    max_image_side: int | None = None
    """Views are scaled down until their longer side has at most this many pixels; None keeps their size."""


class ViewImages(Sequence[tuple[str, Tensor]]):
    """The views of one split as (file name, RGB picture), read when asked for."""

    def __init__(self, datamanager: GenLangSplatDataManager, split: Split) -> None:
        self.datamanager = datamanager
        self.split: Split = split

    def __len__(self) -> int:
        return len(self.datamanager.dataset(self.split))

    def __getitem__(self, index: Any) -> Any:
        name = self.datamanager.view_name(self.split, index)
        return name, self.datamanager.image(self.split, index)


class GenLangSplatDataManager(FullImageDatamanager):
    """FullImageDatamanager that extracts, keeps and serves language features of the views it undistorts."""

    config: GenLangSplatDataManagerConfig

    def __init__(
        self,
        config: GenLangSplatDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
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
        if not torch.cuda.is_available():
            # More than 500 views make nerfstudio choose the cpu cache again.
            config.cache_images = "gpu"
        self._check_images()
        self.encoder_name, self.mask_name = _choose_front_end(config)
        # The model learns from the metadata which encoder its autoencoder must fit.
        self.train_dataset.metadata["encoder_name"] = self.encoder_name
        self.train_dataset.metadata["encoder_identity"] = encoder_identity(self.encoder_name)
        if test_mode == "val":
            self.prepare_language()

    # Views

    def dataset(self, split: Split) -> InputDataset:
        """Returns the dataset of a split."""
        return self.train_dataset if split == "train" else self.eval_dataset

    def view_name(self, split: Split, index: int) -> str:
        """Returns the file name of a view."""
        return self.dataset(split).image_filenames[index].name

    def image(self, split: Split, index: int) -> UInt8[Tensor, "height width 3"]:
        """Returns an undistorted view in RGB."""
        views = self.cached_train if split == "train" else self.cached_eval
        image = views[index]["image"][..., :3]
        return image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)

    def camera(self, split: Split, index: int) -> Cameras:
        """Returns the camera of an undistorted view, on the device."""
        # Undistorting rewrites the cameras, so the pictures come first.
        _ = self.cached_train if split == "train" else self.cached_eval
        return self.dataset(split).cameras[index : index + 1].to(self.device)

    def undistort(self, split: Split, index: int, points: Any, size: tuple[int, int]) -> Any:
        """Moves points marked on the raw photograph (resized to `size`) to the undistorted view."""
        if split == "train":
            raw = self.train_dataparser_outputs.cameras
        else:
            raw = self.eval_dataset._dataparser_outputs.cameras
        return undistort_points(points, size, raw[index], self.camera(split, index)[0])

    def create_train_dataset(self) -> InputDataset:
        """Sets up the training views at the capped size."""
        return self._dataset_of("train")

    def create_eval_dataset(self) -> InputDataset:
        """Sets up the held-out views at the capped size."""
        return self._dataset_of(self.test_split)

    def _dataset_of(self, split: str) -> InputDataset:
        outputs = self.train_dataparser_outputs
        if split != "train":
            outputs = self.dataparser.get_dataparser_outputs(split=split)
        scale = self.config.camera_res_scale_factor
        if self.config.max_image_side is not None and len(outputs.cameras) > 0:
            longest = int(torch.maximum(outputs.cameras.width, outputs.cameras.height).max())
            scale = min(scale, _scale_to(longest, self.config.max_image_side))
        return self.dataset_type(dataparser_outputs=outputs, scale_factor=scale)

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
        masks = load_mask_generator(self.mask_name)
        root = Path(self.config.dataparser.data)
        return FeatureStore.open(
            root if root.is_dir() else root.parent,
            self.encoder_name,
            encoder_identity(self.encoder_name),
            encoder_embedding_dim(self.encoder_name),
            masks.name,
            masks.settings,
        )

    def prepare_language(self) -> None:
        """Extracts the features of all views that the store does not have; a missing weight shows here, not later."""
        for split in ("train", "eval"):
            if len(self.dataset(split)) > 0:
                self._keys(split)

    def language_features(self, split: Split, index: int) -> ViewFeatures:
        """Loads the regions and embeddings of a view, extracting them when they are not in the store."""
        return self.store.load(self._keys(split)[index])

    def _keys(self, split: Split) -> list[str]:
        if split not in self._extracted:
            views = ViewImages(self, split)
            masks = load_mask_generator(self.mask_name)
            load = lambda: load_encoder(self.encoder_name, str(self.device))  # noqa: E731
            self._extracted[split] = extract_features(views, self.store, masks, load)
        return self._extracted[split]

    @cached_property
    def _extracted(self) -> dict[str, list[str]]:
        return {}


def _scale_to(longest: int, side: int) -> float:
    """The factor that brings a side down to at most `side` pixels, rounded as nerfstudio rounds it."""
    if longest <= side:
        return 1.0
    # nerfstudio sizes the picture in double precision and the camera in single precision; a factor that is a multiple
    # of 2^-12 keeps both products exact, so that they round down to the same number of pixels.
    return int(side / longest * 4096) / 4096


def _choose_front_end(config: GenLangSplatDataManagerConfig) -> tuple[str, str]:
    """Resolves `auto` and says what was taken."""
    encoder = "conse" if config.encoder == "auto" else config.encoder
    masks = "watershed" if config.masks == "auto" else config.masks
    if "auto" in (config.encoder, config.masks):
        CONSOLE.print(f"Language features: encoder {encoder}, masks {masks} (embedded: they need no download).")
    return encoder, masks


def _check_data_folder(config: GenLangSplatDataManagerConfig) -> None:
    """Raises when there is nothing to train on."""
    data = Path(config.data or config.dataparser.data)
    if not data.exists():
        raise GenLangSplatError(f"The data folder {data} does not exist. Give --data a folder of posed photographs.")
    if data.is_dir() and not any(data.iterdir()):
        raise GenLangSplatError(f"The data folder {data} is empty. Expected posed photographs and their cameras.")
    expects_json = isinstance(config.dataparser, NerfstudioDataParserConfig) and data.is_dir()
    if expects_json and not (data / "transforms.json").is_file():
        raise GenLangSplatError(
            f"{data} has no transforms.json. Make one from photographs with `ns-process-data images --data PHOTOS "
            f"--output-dir {data}`, or name the data's format after the method, for example `colmap`."
        )
