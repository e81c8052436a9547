"""The data manager: undistorted views and their language features."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
import yaml
from jaxtyping import Bool, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig, DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from torch import Tensor

from genlangsplat_ns.dataparser import PHOTOGRAPH_SCALE, choose_parser, transforms_path
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import resized_mask
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.features.store import FeatureStore
from genlangsplat_ns.features.view_file import ViewFeatures
from genlangsplat_ns.scene_io.frames import SceneFrame
from genlangsplat_ns.scene_io.runs import TRANSFORMS
from genlangsplat_ns.scene_io.stored_paths import require_data
from genlangsplat_ns.utils.progress import track
from genlangsplat_ns.utils.stopwatch import stage
from genlangsplat_ns.views.absent import AbsentViews
from genlangsplat_ns.views.cameras import undistort_points
from genlangsplat_ns.views.dataset import ViewDataset, camera_size, rgb_of
from genlangsplat_ns.views.posed_scene import join_names
from genlangsplat_ns.views.scene_folder import check_scene_folder
from genlangsplat_ns.views.settings import ViewSize

LOGGER = logging.getLogger(__name__)

Split = Literal["train", "eval"]

READING = "reading and undistorting"
"""Stage of a stopwatch."""


@dataclass
class GenLangSplatDataManagerConfig(FeatureSettings, ViewSize, FullImageDatamanagerConfig):
    """Settings of views and language features."""

    _target: type = field(default_factory=lambda: GenLangSplatDataManager)
    """target class to instantiate"""
    needs_photographs: tyro.conf.Suppress[bool] = True
    """Whether an opened run needs its data; set when a run is opened."""


class ViewImages(Sequence[tuple[str, Tensor, "Tensor | None"]]):
    """A lazy sequence of views as (name, RGB image, mask of the pixels that count or None for all)."""

    def __init__(self, datamanager: GenLangSplatDataManager, views: Sequence[tuple[Split, int]]) -> None:
        self.datamanager = datamanager
        self.views = views

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: Any) -> Any:
        split, number = self.views[index]
        return self.datamanager.view_name(split, number), *self.datamanager.masked_image(split, number)


class GenLangSplatDataManager(FullImageDatamanager):
    """FullImageDatamanager that also extracts, stores and loads the language features of its undistorted views."""

    config: GenLangSplatDataManagerConfig
    train_dataset: ViewDataset
    eval_dataset: ViewDataset
    _absent_from: Path | None = None

    def __init__(
        self,
        config: GenLangSplatDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        *,
        extractor: FeatureExtractor | None = None,
        run_dir: Path | None = None,
        **kwargs: Any,
    ) -> None:
        try:
            if run_dir is not None and test_mode != "val":
                require_data(Path(config.data or config.dataparser.data))
            _choose_reader(config, test_mode)
            with _reading_data(config.dataparser):
                super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
            if not torch.cuda.is_available():
                # With more than 500 views, nerfstudio chooses the "cpu" cache again.
                config.cache_images = "gpu"
            self._check_views()
        except GenLangSplatError as error:
            if test_mode != "inference" and config.needs_photographs:
                raise
            LOGGER.warning("%s The run is opened without its photographs, which are not needed here.", error)
            self._absent_from = run_dir or Path()
            stored = self._absent_from / TRANSFORMS
            identity = SceneFrame(torch.eye(4, dtype=torch.float64)[:3], 1.0)
            frame = SceneFrame.read(stored) if stored.is_file() else identity
            AbsentViews(frame.transform, frame.scale).set_up(self, config, device, test_mode)
        # The pipeline decides the extractor. `ns-render dataset` sets up a datamanager without a pipeline.
        self.extractor = extractor or FeatureExtractor(config, device)
        self._language_keys: dict[tuple[Split, int], str] = {}
        self.reused_keys: set[str] = set()

    def get_datapath(self) -> Path:
        """Returns the path of the data; without them the folder of the run, where the viewer stores camera paths."""
        return self._absent_from or super().get_datapath()

    # Views

    def dataset(self, split: Split) -> ViewDataset:
        """Returns the dataset of a split."""
        return self.train_dataset if split == "train" else self.eval_dataset

    def view_name(self, split: Split, index: int) -> str:
        """Returns the name of a view: the path of its photograph below the folder that holds those of both splits."""
        path = os.path.abspath(self.dataset(split).image_filenames[index])
        return Path(path).relative_to(self._photograph_root).as_posix()

    @cached_property
    def _photograph_root(self) -> Path:
        paths = [path for split in ("train", "eval") for path in self.dataset(split).image_filenames]
        return Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths]))

    def image(self, split: Split, index: int) -> UInt8[Tensor, "height width 3"]:
        """Returns an undistorted view in RGB, from the training cache if it is filled, otherwise from its file."""
        return self.masked_image(split, index)[0]

    def mask(self, split: Split, index: int) -> Bool[Tensor, "height width"] | None:
        """Returns which pixels of an undistorted view count for language, on the CPU; None for all.

        The others are masked by the mask file, fully transparent, or show nothing of the photograph.
        """
        return self.masked_image(split, index)[1]

    def has_masked_pixels(self, split: Split) -> bool:
        """Whether any pixel of the views of a split does not count."""
        return any(self.mask(split, index) is not None for index in range(len(self.dataset(split))))

    @property
    def fixed_indices_eval_dataloader(self) -> list[tuple[Cameras, dict[str, Any]]]:
        """The held-out views that are measured: those with a pixel that counts, if there are any."""
        views = super().fixed_indices_eval_dataloader
        return [view for view in views if "mask" not in view[1] or bool(view[1]["mask"].any())] or views

    def masked_image(
        self, split: Split, index: int
    ) -> tuple[UInt8[Tensor, "height width 3"], Bool[Tensor, "height width"] | None]:
        """Returns `image` and `mask` of a view, whose file is read at most once."""
        cache = f"cached_{split}"
        if cache not in self.__dict__:
            view = self.dataset(split).undistorted(index, self.config.cache_images_type)
            return view.rgb, view.language_mask
        item = self.__dict__[cache][index]
        return rgb_of(item["image"]), item.get("language_mask")

    def camera(self, split: Split, index: int) -> Cameras:
        """Returns the camera of an undistorted view, on the device."""
        # Undistorting the images changes the cameras, so the images are loaded first.
        _ = self.cached_train if split == "train" else self.cached_eval
        camera = self.dataset(split).cameras[index : index + 1].to(self.device)
        if split == "train":
            # As in `next_train`: the camera optimizer identifies a view by this index.
            camera.metadata = {"cam_idx": index}
        return camera

    def undistort(self, split: Split, index: int, points: Any, size: tuple[int, int]) -> Any:
        """Maps points on the raw photograph (resized to `size`) to the undistorted view."""
        raw = self.dataset(split).raw_cameras[index]
        return undistort_points(points, size, raw, self.camera(split, index)[0])

    def undistort_mask(self, split: Split, index: int, mask: Any) -> Any:
        """Maps a mask of the raw photograph, at any size, to the undistorted view."""
        raw = resized_mask(mask, *self.raw_size(split, index)).astype(np.float32)
        # Undistorting interpolates the mask values.
        return self.dataset(split).undistort(index, raw[..., None].repeat(3, axis=-1))[..., 0] > 0.5

    def photograph_mask(self, split: Split, index: int, mask: Any) -> Any:
        """Maps a mask of the undistorted view to the photograph at its full size."""
        return self.dataset(split).photograph_mask(index, mask)

    def photograph(self, split: Split, index: int) -> Path:
        """Returns the path of the photograph of a view at its full size."""
        return self.dataset(split).full_photographs[index]

    def raw_size(self, split: Split, index: int) -> tuple[int, int]:
        """Returns the width and height of a photograph before undistortion."""
        return camera_size(self.dataset(split).raw_cameras[index])

    @property
    def frame(self) -> SceneFrame:
        """The coordinate frame of the run."""
        outputs = self.train_dataparser_outputs
        return SceneFrame(outputs.dataparser_transform, float(outputs.dataparser_scale))

    def create_train_dataset(self) -> ViewDataset:
        """Creates the dataset of the training views, limited to the maximum size."""
        return self._limited(self.train_dataparser_outputs)

    def create_eval_dataset(self) -> ViewDataset:
        """Creates the dataset of the held-out views, limited to the maximum size."""
        return self._limited(self.dataparser.get_dataparser_outputs(split=self.test_split))

    def _limited(self, outputs: DataparserOutputs) -> ViewDataset:
        scale = min(self.config.camera_res_scale_factor, outputs.metadata.get(PHOTOGRAPH_SCALE, 1.0))
        if self.config.max_image_side is not None and len(outputs.cameras) > 0:
            longest = int(torch.maximum(outputs.cameras.width, outputs.cameras.height).max())
            scale = min(scale, _scale_to(longest, self.config.max_image_side))
        return ViewDataset(outputs, scale)

    def _load_images(self, split: Split, cache_images_device: Literal["cpu", "gpu"]) -> list[dict[str, Any]]:
        """Reads and undistorts the views of a split, and replaces their cameras by those of the undistorted views."""
        dataset, image_type = self.dataset(split), self.config.cache_images_type
        images: list[dict[str, Any]] = []
        with ThreadPoolExecutor(max_workers=2) as executor:
            views = executor.map(lambda index: dataset.undistorted(index, image_type), range(len(dataset)))
            for index, view in enumerate(track(views, f"Reading {split} views", len(dataset))):
                item = {"image": view.image}
                if view.color_mask is not None:
                    item["mask"] = view.color_mask[..., None]
                on_gpu = cache_images_device == "gpu"
                item = {name: value.to(self.device) if on_gpu else value.pin_memory() for name, value in item.items()}
                if view.language_mask is not None:
                    item["language_mask"] = view.language_mask
                images.append({"image_idx": index, **item})
        dataset.rectify_cameras()
        if split == "train":
            self.train_cameras = dataset.cameras.to(self.device)
        return images

    def _check_views(self) -> None:
        """Checks photographs, masks and lenses, before expensive work starts."""
        listed = [name for split in ("train", "eval") for name in self.dataset(split).image_filenames]
        missing = [str(name) for name in listed if not name.is_file()]
        if missing:
            raise GenLangSplatError(
                f"{len(missing)} of {len(listed)} listed images do not exist: {join_names(missing)}. Restore them, or "
                "remove their frames from the list of frames (transforms.json)."
            )
        for split in ("train", "eval"):
            self.dataset(split).check()

    # Language features

    @cached_property
    def store(self) -> FeatureStore:
        """The feature store next to the data."""
        root = Path(self.config.dataparser.data)
        return self.extractor.open_store(root if root.is_dir() else root.parent)

    def prepare_language(self) -> None:
        """Extracts the missing features of all views before training, so that missing weights are reported early."""
        # Training caches the photographs anyway; loading them first avoids reading them twice.
        with stage(READING):
            for split in self.splits:
                _ = getattr(self, f"cached_{split}")
        with stage("feature store"):
            stored = set(self.store.keys())
            self.extract()
            self.extractor.release()
        self.reused_keys = stored & set(self._language_keys.values())

    @property
    def splits(self) -> list[Split]:
        """The splits that have views."""
        return [split for split in ("train", "eval") if len(self.dataset(split)) > 0]

    def all_views(self) -> list[tuple[Split, int]]:
        """Returns split and index of every view."""
        return [(split, index) for split in self.splits for index in range(len(self.dataset(split)))]

    def extract(self, limit: int | None = None) -> list[tuple[Split, int]]:
        """Extracts the features that are missing from the store, of `limit` or all views; returns these views."""
        views = self.all_views()[:limit]
        keys = self.extractor.extract(ViewImages(self, views), self.store)
        self._language_keys |= dict(zip(views, keys, strict=True))
        return views

    def language_key(self, split: Split, index: int) -> str:
        """Returns the key of a view in the feature store; extracts its features if they are missing."""
        view = (split, index)
        if view not in self._language_keys:
            (self._language_keys[view],) = self.extractor.extract(ViewImages(self, [view]), self.store)
        return self._language_keys[view]

    def language_features(self, split: Split, index: int) -> ViewFeatures:
        """Loads the regions and embeddings of a view; extracts them if they are missing."""
        return self.store.load(self.language_key(split, index))


def _scale_to(longest: int, side: int) -> float:
    """Returns the factor that scales a side of `longest` pixels to at most `side` pixels with nerfstudio's rounding."""
    if longest <= side:
        return 1.0
    # nerfstudio computes the image size in double and the camera size in single precision. With a multiple of 2^-12
    # both products are exact, so both round down to the same number of pixels.
    return int(side / longest * 4096) / 4096


def _choose_reader(config: GenLangSplatDataManagerConfig, test_mode: Literal["test", "val", "inference"]) -> None:
    """Completes the settings of cache and parser, and checks them and that there are data."""
    if not torch.cuda.is_available():
        # The "cpu" cache pins memory, which needs CUDA; the "gpu" cache is on the device, here the CPU.
        config.cache_images = "gpu"
    if config.max_image_side is not None and config.max_image_side < 1:
        raise GenLangSplatError(f"Found a maximum image side of {config.max_image_side} pixels; give at least 1.")
    config.dataparser.data = Path(config.data or config.dataparser.data)
    parser: Any = choose_parser(config.dataparser)
    config.dataparser = parser
    if test_mode != "val" and hasattr(parser, "load_3D_points"):
        # A run that is opened has its Gaussians already.
        parser.load_3D_points = False
    in_one_file = isinstance(parser, NerfstudioDataParserConfig)
    check_scene_folder(parser.data, transforms_path(parser.data) if in_one_file else None)


PARSER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, RuntimeError, SyntaxError),
    *(TypeError, ValueError, struct.error, yaml.YAMLError),
)
"""What parsers of nerfstudio and of other projects raise for files that they cannot read."""


@contextmanager
def _reading_data(config: DataParserConfig) -> Iterator[None]:
    """Converts exceptions of a parser in the block into an error that names the data."""
    try:
        yield
    except GenLangSplatError:
        raise
    except FileNotFoundError as error:
        raise GenLangSplatError(
            f"The data lists a file that does not exist: {error.filename}. Restore it, or remove its frame from the "
            "list of frames."
        ) from error
    except OSError as error:
        # nerfstudio's parsers open one photograph to read its size.
        raise GenLangSplatError(
            f"A file of the data cannot be read ({error}). Replace it, or remove its frame from the list of frames."
        ) from error
    except PARSER_ERRORS as error:
        raise GenLangSplatError(
            f"{config.data} cannot be read in the format of {type(config).__name__} ({type(error).__name__}: {error}). "
            "Check the file of its cameras, or choose another format."
        ) from error
