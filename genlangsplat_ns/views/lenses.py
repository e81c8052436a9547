"""Lenses of photographs: intrinsics and distortion as nerfstudio stores them, from COLMAP's and other parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

import numpy as np
from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE, CameraType

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.json_files import lenient_number_of


def undistort_advice(images: str = "IMAGES", model: str = "MODEL", output: str = "UNDISTORTED") -> str:
    """Returns how photographs of a lens that is not supported are undistorted: from their folder and model."""
    paths = f"--image_path {quote(images)} --input_path {quote(model)} --output_path {quote(output)}"
    return f"Undistort the photographs with `colmap image_undistorter {paths}`, and train on {output}."


UNDISTORT = undistort_advice()

MODELS = {
    **CAMERA_MODEL_TO_TYPE,
    "FULL_OPENCV": CameraType.PERSPECTIVE,
    "SIMPLE_RADIAL_FISHEYE": CameraType.FISHEYE,
    "RADIAL_FISHEYE": CameraType.FISHEYE,
    "THIN_PRISM_FISHEYE": CameraType.FISHEYE,
    "FISHEYE": CameraType.FISHEYE,
    "SIMPLE_FISHEYE": CameraType.FISHEYE,
}
"""Names of camera models, in capitals, and nerfstudio's type for each."""

COLMAP_PARAMETERS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "THIN_PRISM_FISHEYE": "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
    "SIMPLE_FISHEYE": "f cx cy",
    "FISHEYE": "fx fy cx cy",
}
"""Names of the parameters of COLMAP's camera models, in order."""

DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Distortion terms in nerfstudio's order."""


@dataclass(frozen=True)
class Lens:
    """The camera model of one photograph, in pixels.

    Raises:
        GenLangSplatError: Its photographs cannot be undistorted to perspective views.
    """

    camera_type: CameraType
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = (0.0,) * 6
    """The terms `DISTORTION`; k4 belongs to fisheye lenses only."""

    def __post_init__(self) -> None:
        if self.camera_type == CameraType.PERSPECTIVE and self.distortion[3] != 0:
            # It means different things to programs.
            raise GenLangSplatError(
                f"Found a perspective camera with k4 = {self.distortion[3]:g}, which cannot be undistorted here. "
                f"{UNDISTORT}"
            )
        if self.camera_type not in (CameraType.PERSPECTIVE, CameraType.FISHEYE):
            advice = "Convert the photographs to perspective views."
            if self.camera_type == CameraType.EQUIRECTANGULAR:
                advice = (
                    "Cut perspective views out of the panoramas, for example with `ns-process-data images "
                    "--camera-type equirectangular --data PANORAMAS --output-dir SCENE`."
                )
            raise GenLangSplatError(
                f"The photographs have {self.camera_type.name} cameras; expected perspective or fisheye cameras. "
                f"{advice}"
            )

    @property
    def fisheye(self) -> bool:
        """Whether the lens is a fisheye lens: equidistant, with k1 to k4 of OpenCV's fisheye model."""
        return self.camera_type == CameraType.FISHEYE

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photograph."""
        return self.width, self.height

    @classmethod
    def from_colmap(
        cls, model: str, width: int, height: int, parameters: Sequence[float], advice: str = UNDISTORT
    ) -> Lens:
        """Converts a camera of COLMAP.

        Raises:
            GenLangSplatError: The model has distortion that cannot be undistorted here, or is unknown.
        """
        names = COLMAP_PARAMETERS.get(model, "").split()
        if not names or len(names) != len(parameters):
            raise GenLangSplatError(
                f"Found the camera model {model} with {len(parameters)} parameters, which cannot be undistorted here. "
                + advice
            )
        values = dict(zip(names, map(float, parameters), strict=True))
        focal = {} if "f" not in values else {"fx": values["f"], "fy": values["f"]}
        return cls.from_values(model, width, height, {**values, **focal}, advice)

    @classmethod
    def from_values(
        cls, model: str, width: int, height: int, values: Mapping[str, float], advice: str = UNDISTORT
    ) -> Lens:
        """Makes a lens from named parameters: fx, fy, cx, cy and distortion terms.

        Raises:
            GenLangSplatError: The model is unknown, a value is not finite, or the distortion cannot be undistorted.
        """
        camera_type = MODELS.get(model.upper())
        if camera_type is None:
            raise GenLangSplatError(
                f"Found the camera model {model}; expected one of {', '.join(sorted(MODELS))}. {advice}"
            )
        others = ("p1", "p2", "sx1", "sy1") if camera_type == CameraType.FISHEYE else ("k4",)
        for name in (*others, "k5", "k6"):
            if values.get(name, 0.0) != 0.0:
                raise GenLangSplatError(
                    f"Found the camera model {model} with {name} = {values[name]:g}, which cannot be undistorted here. "
                    + advice
                )
        distortion = tuple(float(values.get(name, 0.0)) for name in DISTORTION)
        lens = cls(camera_type, width, height, values["fx"], values["fy"], values["cx"], values["cy"], distortion)
        intrinsics = (lens.fx, lens.fy, lens.cx, lens.cy, *distortion)
        if not np.isfinite(intrinsics).all() or min(lens.fx, lens.fy) <= 0 or min(width, height) < 1:
            shown = ", ".join(f"{value:g}" for value in intrinsics)
            raise GenLangSplatError(
                f"Found a camera of {width}x{height} pixels with the parameters {shown}; expected finite values, and "
                "positive sizes and focal lengths. Correct the camera."
            )
        return lens

    def divided(self, factor: int) -> Lens:
        """Returns the lens of a downscaled photograph; sizes are rounded down as in nerfstudio."""
        intrinsics = {name: getattr(self, name) / factor for name in ("fx", "fy", "cx", "cy")}
        return replace(self, width=self.width // factor, height=self.height // factor, **intrinsics)


def lens_values(frame: Mapping[str, Any], width: int, height: int) -> dict[str, float]:
    """Collects the lens parameters of a frame of transforms.json.

    Focal lengths come from `fl_x`, or from an angle of view: `camera_angle_x` in radians or `x_fov` in degrees. A
    missing principal point is the center.

    Raises:
        GenLangSplatError: There is no focal length.
    """
    focal_x = _focal(frame, "x", width)
    focal_y = _focal(frame, "y", height)
    if focal_x is None and focal_y is None:
        raise GenLangSplatError(
            "Found no focal length; expected fl_x, or an angle of view in camera_angle_x, for all frames or in each "
            "frame. Add it."
        )
    values = {name: _number(frame, name) for name in (*DISTORTION, "k5", "k6") if name in frame}
    if "distortion_params" in frame:
        terms = frame["distortion_params"]
        if not isinstance(terms, list | tuple):
            raise GenLangSplatError("Its distortion_params are no list of numbers. Correct them.")
        values = {name: _number({name: term}, name) for name, term in zip(DISTORTION, terms, strict=False)}
    return {
        **values,
        "fx": focal_x if focal_x is not None else float(focal_y or 0.0),
        "fy": focal_y if focal_y is not None else float(focal_x or 0.0),
        "cx": _number(frame, "cx", width / 2),
        "cy": _number(frame, "cy", height / 2),
    }


def _focal(frame: Mapping[str, Any], axis: str, side: int) -> float | None:
    """Returns the focal length along an axis in pixels."""
    if f"fl_{axis}" in frame:
        return _number(frame, f"fl_{axis}")
    if f"camera_angle_{axis}" in frame:
        angle = _number(frame, f"camera_angle_{axis}")
    elif f"{axis}_fov" in frame:
        angle = float(np.radians(_number(frame, f"{axis}_fov")))
    else:
        return None
    if not 0 < angle < np.pi:
        raise GenLangSplatError(
            f"Found an angle of view of {np.degrees(angle):.4g} degrees; expected more than 0 and less than 180. "
            "Correct camera_angle_x (in radians) or x_fov (in degrees)."
        )
    return float(side / 2 / np.tan(angle / 2))


def _number(frame: Mapping[str, Any], name: str, default: float | None = None) -> float:
    try:
        return lenient_number_of(frame.get(name, default), name)
    except ValueError as error:
        raise GenLangSplatError(f"Its {error}. Correct it.") from error
