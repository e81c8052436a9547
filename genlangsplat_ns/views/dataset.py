"""The views of a scene: photographs in many formats, read one at a time and undistorted."""

from __future__ import annotations

from copy import deepcopy
from typing import Literal

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from nerfstudio.data.datamanagers.full_images_datamanager import _undistort_image
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image, ImageOps
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import eight_bit, reading_picture


class ViewDataset(InputDataset):
    """nerfstudio's dataset with support for 16-bit, palette, CMYK and EXIF-rotated photographs.

    It can undistort a single view.

    Args:
        dataparser_outputs: The views.
        scale_factor: Scale factor of the photographs.

    Attributes:
        raw_cameras: The cameras before undistortion. nerfstudio overwrites its own cameras when it undistorts.
    """

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0) -> None:
        super().__init__(dataparser_outputs, scale_factor)
        self.raw_cameras = deepcopy(self.cameras)

    def get_numpy_image(self, image_idx: int) -> UInt8[np.ndarray, "height width channels"]:
        """Reads a photograph in the orientation of its camera.

        Structure-from-motion programs may apply or ignore the EXIF rotation. The image size of the camera shows which.

        Raises:
            GenLangSplatError: The file is not an image, or its size differs from that of its camera.
        """
        path = self.image_filenames[image_idx]
        camera = self._dataparser_outputs.cameras[image_idx]
        expected = (int(camera.width), int(camera.height))
        advice = "Replace it, or remove its frame from the list of frames."
        with reading_picture(str(path), advice), Image.open(path) as file:
            image = file if file.size == expected else ImageOps.exif_transpose(file)
            if image.size != expected:
                raise GenLangSplatError(
                    f"{path} has {file.width}x{file.height} pixels, but its camera has {expected[0]}x{expected[1]}. "
                    "Restore the photographs that the cameras were computed from, or compute the cameras again."
                )
            image = eight_bit(image, str(path))
        if self.scale_factor != 1.0:
            size = (int(image.width * self.scale_factor), int(image.height * self.scale_factor))
            image = image.resize(size, resample=Image.Resampling.BILINEAR)
        pixels = np.array(image)
        return pixels if pixels.ndim == 3 else pixels[:, :, None].repeat(3, axis=2)

    def undistorted_view(self, index: int, image_type: Literal["uint8", "float32"]) -> UInt8[Tensor, "height width 3"]:
        """Reads one view as served by nerfstudio's datamanager, in RGB, without caching it.

        Args:
            index: Index of the view.
            image_type: The data type in which the datamanager undistorts.
        """
        image = self.get_data(index, image_type=image_type)["image"]
        view = torch.from_numpy(self.undistort(index, image.numpy()))[..., :3]
        return view if view.dtype == torch.uint8 else (view * 255).round().to(torch.uint8)

    def undistort(
        self, index: int, raw: Shaped[np.ndarray, "raw_height raw_width channels"]
    ) -> Shaped[np.ndarray, "height width channels"]:
        """Undistorts an image that is aligned with the photograph of a view."""
        camera = self.raw_cameras[index].reshape(())
        distortion = camera.distortion_params
        if distortion is None or not bool(distortion.any()):
            return raw
        return _undistort_image(camera, distortion.numpy(), {}, raw, camera.get_intrinsics_matrices().numpy())[1]
