"""The views of a scene: photographs in many formats, read one at a time and undistorted, and which pixels count."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image, ImageOps
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import eight_bit, open_photograph, reading_picture
from genlangsplat_ns.views.downscaling import picture_size
from genlangsplat_ns.views.masks import check_masks, listed_mask, read_mask, same_shape
from genlangsplat_ns.views.posed_scene import FULL_PHOTOGRAPHS
from genlangsplat_ns.views.undistortion import undistortion_of

LOGGER = logging.getLogger(__name__)

ImageType = Literal["uint8", "float32"]


@dataclass(frozen=True, eq=False)
class UndistortedView:
    """A view as it is trained on."""

    image: Shaped[Tensor, "height width channels"]
    """Colors, and opacity if the photograph has transparent pixels and the data no background color."""
    color_mask: Bool[Tensor, "height width"] | None
    """The pixels that count for colors, by the mask file and the lens; None for all."""
    language_mask: Bool[Tensor, "height width"] | None
    """The pixels that count for language: those of `color_mask` that are not fully transparent; None for all."""

    @property
    def rgb(self) -> UInt8[Tensor, "height width 3"]:
        """The colors."""
        return rgb_of(self.image)


class ViewDataset(InputDataset):
    """nerfstudio's dataset with support for 16-bit, palette, CMYK and EXIF-rotated photographs, and for all masks.

    It can undistort a single view.

    Attributes:
        raw_cameras: The cameras before undistortion. Undistorting all views overwrites the other cameras.
        mask_filenames: The mask of each view, or None.
        full_photographs: The photograph of each view at full size, of which the view may show a downscaled copy.
    """

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0) -> None:
        super().__init__(dataparser_outputs, scale_factor)
        self.raw_cameras = deepcopy(self.cameras)
        photographs = dataparser_outputs.image_filenames
        self.full_photographs = [Path(path) for path in self.metadata.get(FULL_PHOTOGRAPHS, photographs)]
        masks: Sequence[Path | None] = dataparser_outputs.mask_filenames or [None] * len(photographs)
        self.mask_filenames = [mask and listed_mask(mask, item) for mask, item in zip(masks, photographs, strict=True)]

    def check(self) -> None:
        """Checks the masks and the lenses without reading pixels.

        Raises:
            GenLangSplatError: A mask is missing or does not fit its photograph, or a lens cannot be undistorted.
        """
        cameras = self._dataparser_outputs.cameras
        photographs = set(self.image_filenames)
        for mask, photograph in zip(self.mask_filenames, self.image_filenames, strict=True):
            if mask in photographs:
                raise GenLangSplatError(f"The mask of {photograph} is the photograph {mask}. Correct its mask_path.")
        check_masks(self.mask_filenames, [camera_size(cameras[index]) for index in range(len(self))])
        for index in range(len(self)):
            undistortion_of(self.raw_cameras[index])

    def get_numpy_image(self, image_idx: int) -> UInt8[np.ndarray, "height width channels"]:
        """Reads a photograph in the orientation and at the size of its camera.

        Structure-from-motion programs may apply or ignore the EXIF rotation. The image size of the camera shows which.
        A side may differ by one pixel from rounding, as in downscaled copies of the photographs.

        Raises:
            GenLangSplatError: The file is not an image, or its size differs from that of its camera.
        """
        path = self.image_filenames[image_idx]
        expected = camera_size(self._dataparser_outputs.cameras[image_idx])
        advice = "Replace it, or remove its frame from the list of frames."
        with reading_picture(str(path), advice), open_photograph(path) as file:
            image = _upright(file, expected)
            if image is None:
                raise GenLangSplatError(
                    f"{path} has {file.width}x{file.height} pixels, but its camera has {expected[0]}x{expected[1]}. "
                    "Restore the photographs that the cameras were computed from, or compute the cameras again."
                )
            if image.size != expected:
                _log_resizing(path.parent, image.size, expected)
            image = eight_bit(image, str(path))
        served = camera_size(self.raw_cameras[image_idx])
        if image.size != served:
            image = image.resize(served, resample=Image.Resampling.BILINEAR)
        pixels = np.array(image)
        return pixels if pixels.ndim == 3 else pixels[:, :, None].repeat(3, axis=2)

    def get_data(self, image_idx: int, image_type: ImageType = "float32") -> dict[str, Any]:
        """Reads a photograph and its mask as nerfstudio does, before undistortion."""
        pixels = self.get_numpy_image(image_idx)
        kept = self._file_mask(image_idx)
        data = {"image_idx": image_idx, "image": self._colored(pixels, kept, image_type)}
        return data if kept is None else {**data, "mask": torch.from_numpy(kept)[..., None]}

    def undistorted(self, index: int, image_type: ImageType) -> UndistortedView:
        """Reads and undistorts one view in this data type, without caching it."""
        pixels = self.get_numpy_image(index)
        for_colors = self._file_mask(index)
        image = self.undistort(index, self._colored(pixels, for_colors, image_type).numpy())
        for_language = for_colors
        if pixels.shape[2] == 4:
            opaque = pixels[..., 3] > 0
            for_language = opaque if for_colors is None else for_colors & opaque
        masks = (self._undistorted_mask(index, kept) for kept in (for_colors, for_language))
        return UndistortedView(torch.from_numpy(image), *masks)

    def undistort(
        self, index: int, raw: Shaped[np.ndarray, "raw_height raw_width channels"]
    ) -> Shaped[np.ndarray, "height width channels"]:
        """Undistorts an image that is aligned with the photograph of a view."""
        undistortion = undistortion_of(self.raw_cameras[index])
        return raw if undistortion is None else undistortion.picture(raw)

    def photograph_mask(
        self, index: int, kept: Bool[np.ndarray, "height width"]
    ) -> Bool[np.ndarray, "photograph_height photograph_width"]:
        """Maps a mask of an undistorted view to its photograph, at the full size and in the orientation of its camera.

        The view may have been made from a downscaled copy of the photograph.
        """
        undistortion = undistortion_of(self.raw_cameras[index])
        raw = kept if undistortion is None else undistortion.photograph_mask(kept)
        size = picture_size(self.full_photographs[index])
        size = size if same_shape(size, (raw.shape[1], raw.shape[0])) else size[::-1]
        return np.asarray(Image.fromarray(raw.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)) > 0

    def rectify_cameras(self) -> None:
        """Replaces the cameras by the perspective cameras of the undistorted views."""
        cameras = self.cameras
        for index in range(len(self)):
            undistortion = undistortion_of(self.raw_cameras[index])
            if undistortion is not None:
                cameras.fx[index], cameras.fy[index], cameras.cx[index], cameras.cy[index] = undistortion.intrinsics
                cameras.width[index], cameras.height[index] = undistortion.size
        # A new tensor, because the cameras may share one.
        cameras.camera_type = torch.full_like(cameras.camera_type, CameraType.PERSPECTIVE.value)

    def _undistorted_mask(
        self, index: int, kept: Bool[np.ndarray, "raw_height raw_width"] | None
    ) -> Bool[Tensor, "height width"] | None:
        """Undistorts a mask; None stands for a mask that keeps all pixels."""
        undistortion = undistortion_of(self.raw_cameras[index])
        if undistortion is not None:
            kept = undistortion.shown if kept is None else undistortion.mask(kept)
        return None if kept is None or kept.all() else torch.from_numpy(kept)

    def _file_mask(self, index: int) -> Bool[np.ndarray, "raw_height raw_width"] | None:
        """Reads the mask file of a view at the size of its photograph; None if there is none."""
        path = self.mask_filenames[index]
        if path is None:
            return None
        full = camera_size(self._dataparser_outputs.cameras[index])
        return read_mask(path, full, camera_size(self.raw_cameras[index]))

    def _colored(
        self,
        pixels: UInt8[np.ndarray, "height width channels"],
        kept: Bool[np.ndarray, "height width"] | None,
        image_type: ImageType,
    ) -> Shaped[Tensor, "height width _"]:
        """Converts a photograph like nerfstudio: replaces the opacity and the masked pixels by colors of the data."""
        image = torch.from_numpy(pixels)
        if image_type == "float32":
            image = torch.from_numpy(pixels.astype("float32") / 255.0)
        scale = 1.0 if image_type == "float32" else 255.0
        background = self._dataparser_outputs.alpha_color
        if background is not None and image.shape[-1] == 4:
            opacity = image[..., 3:] / scale
            image = image[..., :3] * opacity + scale * background * (1.0 - opacity)
            image = image if image_type == "float32" else image.clamp(0, 255).to(torch.uint8)
        if self.mask_color and kept is not None:
            color = (scale * torch.tensor(self.mask_color)).to(image.dtype)
            image[..., :3] = torch.where(torch.from_numpy(kept)[..., None], image[..., :3], color)
        return image


def rgb_of(image: Shaped[Tensor, "height width _"]) -> UInt8[Tensor, "height width 3"]:
    """Returns the colors of an image, whose values range to 255 (uint8) or to 1 (float32), without its opacity."""
    colors = image[..., :3]
    return colors if colors.dtype == torch.uint8 else (colors * 255).round().to(torch.uint8)


def camera_size(camera: Any) -> tuple[int, int]:
    """Returns width and height of one camera."""
    return int(camera.width), int(camera.height)


def _upright(file: Image.Image, expected: tuple[int, int]) -> Image.Image | None:
    """Returns the photograph in the orientation of a camera of the expected size; None if neither has that size."""
    if file.size == expected:
        return file
    both = (file, ImageOps.exif_transpose(file))
    distances = [max(abs(found - side) for found, side in zip(image.size, expected, strict=True)) for image in both]
    closest = min(range(2), key=distances.__getitem__)
    return both[closest] if distances[closest] <= 1 else None


@cache
def _log_resizing(folder: Path, found: tuple[int, int], expected: tuple[int, int]) -> None:
    LOGGER.info(
        "Photographs in %s have %dx%d pixels and their cameras %dx%d, a difference from rounding; they are resized to "
        "the size of their cameras.",
        *(folder, *found, *expected),
    )
