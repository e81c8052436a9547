"""Lenses that can be undistorted are read; the others are refused with the way to go on."""

from __future__ import annotations

from math import atan, degrees

import pytest
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.utils.colmap_parsing_utils import Camera
from nerfstudio.process_data.colmap_utils import parse_colmap_camera_params

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.lenses import Lens, lens_values

COUNTS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
}


@pytest.mark.parametrize("model", COUNTS)
def test_models_of_colmap_agree_with_nerfstudio(model: str) -> None:
    parameters = [100.0 + number for number in range(4)] + [0.01 * number for number in range(1, 5)]
    parameters = parameters[: COUNTS[model]]
    theirs = parse_colmap_camera_params(Camera(id=1, model=model, width=64, height=48, params=parameters))
    lens = Lens.from_colmap(model, 64, 48, parameters)
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == tuple(theirs[name] for name in ("fl_x", "fl_y", "cx", "cy"))
    assert lens.distortion == tuple(theirs.get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    assert (lens.camera_type == CameraType.FISHEYE) == ("FISHEYE" in model)


PINHOLE = [100.0, 101.0, 32.0, 24.0]

ZEROS = [0.0] * 7


def test_full_opencv_without_its_denominator_is_opencv_with_k3() -> None:
    lens = Lens.from_colmap("FULL_OPENCV", 64, 48, [*PINHOLE, 0.1, 0.2, 0.01, 0.02, 0.3, *ZEROS[:3]])
    assert lens.camera_type == CameraType.PERSPECTIVE
    assert lens.distortion == (0.1, 0.2, 0.3, 0.0, 0.01, 0.02)


def test_thin_prism_fisheye_without_its_prism_is_a_fisheye() -> None:
    lens = Lens.from_colmap("THIN_PRISM_FISHEYE", 64, 48, [*PINHOLE, 0.1, 0.2, 0.0, 0.0, 0.3, 0.4, 0.0, 0.0])
    assert lens.camera_type == CameraType.FISHEYE
    assert lens.distortion == (0.1, 0.2, 0.3, 0.4, 0.0, 0.0)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("FULL_OPENCV", [*PINHOLE, *ZEROS[:5], 0.1, 0.0, 0.0]),
        ("FULL_OPENCV", [*PINHOLE, *ZEROS, 0.1]),
        ("THIN_PRISM_FISHEYE", [*PINHOLE, 0.0, 0.0, 0.1, *ZEROS[:5]]),
        ("THIN_PRISM_FISHEYE", [*PINHOLE, *ZEROS[:6], 0.1, 0.0]),
        ("FOV", [*PINHOLE, 0.9]),
        ("RAD_TAN_THIN_PRISM_FISHEYE", [*PINHOLE, *ZEROS, *ZEROS[:5]]),
    ],
)
def test_other_lenses_of_colmap_are_refused(model: str, parameters: list[float]) -> None:
    with pytest.raises(GenLangSplatError, match=rf"{model}.*colmap image_undistorter"):
        Lens.from_colmap(model, 64, 48, parameters)


@pytest.mark.parametrize("kind", [CameraType.EQUIRECTANGULAR, CameraType.ORTHOPHOTO, CameraType.FISHEYE624])
def test_views_that_cannot_become_perspective_are_refused(kind: CameraType) -> None:
    with pytest.raises(GenLangSplatError, match=kind.name):
        Lens(kind, 64, 48, *PINHOLE)


def test_panoramas_are_refused_with_the_command_that_cuts_them() -> None:
    with pytest.raises(GenLangSplatError, match="ns-process-data images --camera-type equirectangular"):
        Lens(CameraType.EQUIRECTANGULAR, 64, 48, *PINHOLE)


def test_a_fourth_term_belongs_to_fisheye_lenses() -> None:
    terms = (0.0, 0.0, 0.0, 0.1, 0.0, 0.0)
    assert Lens(CameraType.FISHEYE, 64, 48, *PINHOLE, terms).distortion == terms
    with pytest.raises(GenLangSplatError, match="k4"):
        Lens(CameraType.PERSPECTIVE, 64, 48, *PINHOLE, terms)


@pytest.mark.parametrize(
    "frame",
    [
        {"fl_x": 50.0, "fl_y": 50.0, "cx": 32.0, "cy": 24.0},
        {"fl_x": 50.0},
        {"fl_y": 50.0},
        {"camera_angle_x": 2 * atan(32 / 50)},
        {"x_fov": degrees(2 * atan(32 / 50))},
        {"camera_angle_x": 2 * atan(32 / 50), "camera_angle_y": 2 * atan(24 / 50)},
    ],
)
def test_focal_lengths_and_angles_of_view(frame: dict[str, float]) -> None:
    values = lens_values(frame, 64, 48)
    assert {name: values[name] for name in ("fx", "fy", "cx", "cy")} == pytest.approx(
        {"fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 24.0}
    )


def test_a_frame_without_a_focal_length_is_refused() -> None:
    with pytest.raises(GenLangSplatError, match="fl_x"):
        lens_values({"w": 64}, 64, 48)


@pytest.mark.parametrize("values", [{"fx": 0.0}, {"fx": float("nan")}, {"k1": float("inf")}])
def test_impossible_lenses_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(GenLangSplatError, match="finite values"):
        Lens.from_values("OPENCV", 64, 48, {"fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 24.0, **values})


def test_unknown_models_are_named() -> None:
    with pytest.raises(GenLangSplatError, match=r"CUBEMAP.*OPENCV_FISHEYE"):
        Lens.from_values("CUBEMAP", 64, 48, {"fx": 1.0, "fy": 1.0, "cx": 0.0, "cy": 0.0})
