"""Small scenes of generated images, opened like in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from genlangsplat_ns.datamanager import GenLangSplatDataManager, GenLangSplatDataManagerConfig
from genlangsplat_ns.features.extractor import FeatureExtractor

ImageType = Literal["uint8", "float32"]


def write_scene(folder: Path, frames: dict[str, dict[str, Any]], **shared: Any) -> Path:
    """Writes the cameras of the images in `folder`/images. All are training views, and the first is also held out."""
    names = [f"images/{name}" for name in frames]
    poses = [np.eye(4) + np.eye(4, k=3) * number for number in range(len(frames))]
    transforms = {
        **shared,
        "train_filenames": names,
        "val_filenames": names[:1],
        "test_filenames": names[:1],
        "frames": [
            {"file_path": name, "transform_matrix": pose.tolist(), **frame}
            for name, pose, frame in zip(names, poses, frames.values(), strict=True)
        ],
    }
    (folder / "transforms.json").write_text(json.dumps(transforms))
    return folder


def pinhole(size: tuple[int, int]) -> dict[str, Any]:
    """A camera without distortion for an image size (width, height)."""
    width, height = size
    return {"w": width, "h": height, "fl_x": width, "fl_y": width, "cx": width / 2, "cy": height / 2}


def open_scene(folder: Path, image_type: ImageType = "uint8", **settings: Any) -> GenLangSplatDataManager:
    """Opens the views without reading an image."""
    parser = NerfstudioDataParserConfig(auto_scale_poses=False)
    settings = {"encoder": "conse", "masks": "watershed", **settings}
    config = GenLangSplatDataManagerConfig(data=folder, dataparser=parser, cache_images_type=image_type, **settings)
    return GenLangSplatDataManager(config, device="cpu", test_mode="test", extractor=FeatureExtractor(config))


def scene_of(
    folder: Path, picture: Image.Image, name: str = "view.png", camera_size: tuple[int, int] | None = None, **save: Any
) -> GenLangSplatDataManager:
    """Opens a scene of one image; its camera has the size of the image or `camera_size`."""
    (folder / "images").mkdir()
    picture.save(folder / "images" / name, **save)
    return open_scene(write_scene(folder, {name: pinhole(camera_size or picture.size)}))


def view_of(*args: Any, **kwargs: Any) -> np.ndarray:
    """The only view of a scene made by `scene_of`."""
    return scene_of(*args, **kwargs).image("train", 0).numpy()


def ramp(size: tuple[int, int], channels: int) -> np.ndarray:
    """Smooth colors that differ in all corners and channels, so that rotations and swaps are visible."""
    columns, rows = np.meshgrid(*(np.linspace(0, 1, side) for side in size))
    planes = (columns, rows, 1 - columns * rows, 0.2 + 0.6 * rows)[:channels]
    return (np.stack(planes, axis=-1) * 255).round().astype(np.uint8)


SIZE = (24, 16)
