"""Reading seed points from PLY files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from nerfstudio.models.splatfacto import RGB2SH

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.ply import write_ply
from genlangsplat_ns.scene_io.seed_points import read_seed_points
from tests.scene_io.gaussian_fakes import make_gaussians

POSITION = [("x", "f4"), ("y", "f4"), ("z", "f4")]
COLOR = [("red", "u1"), ("green", "u1"), ("blue", "u1")]


def write(path: Path, rows: list[tuple], columns: list[tuple[str, str]], text: bool = False) -> Path:
    vertices = plyfile.PlyElement.describe(np.array(rows, dtype=columns), "vertex")
    plyfile.PlyData([vertices], text=text).write(str(path))
    return path


def write_colored(path: Path, colors: list[tuple], names: tuple[str, ...], kind: str, text: bool = False) -> Path:
    """Points along the x axis with colors of any name and type."""
    rows = [(number, 0, 0, *color) for number, color in enumerate(colors)]
    return write(path, rows, POSITION + [(name, kind) for name in names], text)


@pytest.mark.parametrize("text", [True, False])
def test_positions_and_colors_come_back(tmp_path: Path, text: bool) -> None:
    path = write(tmp_path / "points.ply", [(1, 2, 3, 10, 20, 30), (4, 5, 6, 40, 50, 60)], POSITION + COLOR, text)
    positions, colors = read_seed_points(path)
    assert positions.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert colors.tolist() == [[10, 20, 30], [40, 50, 60]]
    assert (positions.dtype, colors.dtype) == (np.float64, np.uint8)


def test_positions_keep_double_precision(tmp_path: Path) -> None:
    row = (500_000.123456789, 4_649_776.000000321, 3.0)
    for text in (True, False):
        path = write(tmp_path / "far.ply", [row], [(axis, "f8") for axis in "xyz"], text)
        assert tuple(read_seed_points(path)[0][0]) == row


def test_an_offset_in_the_header_is_added(tmp_path: Path) -> None:
    vertices = plyfile.PlyElement.describe(np.array([(0.25, 0, 1)], dtype=POSITION), "vertex")
    plyfile.PlyData([vertices], comments=["made by hand", "offset 500000 4649776.5 -1"]).write(str(tmp_path / "a.ply"))
    assert read_seed_points(tmp_path / "a.ply")[0].tolist() == [[500_000.25, 4_649_776.5, 0]]


BYTES = [(0, 128, 255), (10, 20, 30)]


@pytest.mark.parametrize("text", [True, False], ids=["text", "binary"])
@pytest.mark.parametrize(
    ("kind", "white"), [("u1", 255), ("u2", 65535), ("u4", 255), ("f4", 1), ("f8", 1), ("f4", 255), ("f4", 65535)]
)
def test_colors_of_any_type_and_range_are_the_same(tmp_path: Path, kind: str, white: int, text: bool) -> None:
    colors = [tuple(channel * white / 255 for channel in color) for color in BYTES]
    path = write_colored(tmp_path / "points.ply", colors, ("red", "green", "blue"), kind, text)
    assert [tuple(color) for color in read_seed_points(path)[1]] == BYTES


@pytest.mark.parametrize("names", [("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"), tuple("RGB")])
def test_colors_of_any_name_are_found(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = write_colored(tmp_path / "points.ply", BYTES, names, "u1")
    assert [tuple(color) for color in read_seed_points(path)[1]] == BYTES


@pytest.mark.parametrize("name", ["intensity", "scalar_Intensity", "gray"])
def test_an_intensity_is_a_gray(tmp_path: Path, name: str) -> None:
    path = write_colored(tmp_path / "points.ply", [(0.0,), (0.2,), (1.0,)], (name,), "f4")
    assert read_seed_points(path)[1].tolist() == [[0] * 3, [51] * 3, [255] * 3]


def test_colors_a_little_brighter_than_white_are_white(tmp_path: Path) -> None:
    path = write_colored(tmp_path / "points.ply", [(1.02, 0.2, -0.1)], ("red", "green", "blue"), "f4")
    assert read_seed_points(path)[1].tolist() == [[255, 51, 0]]


def test_gaussian_splats_have_the_colors_of_their_constant_harmonics(tmp_path: Path) -> None:
    gaussians = make_gaussians(4, degree=2)
    colors = torch.tensor([[0.0, 0.5, 1.0], [0.1, 0.2, 0.3], [1.0, 1.0, 1.0], [0.9, 0.0, 0.4]])
    write_ply(tmp_path / "splats.ply", replace(gaussians, features_dc=RGB2SH(colors)))
    positions, read = read_seed_points(tmp_path / "splats.ply")
    assert np.array_equal(positions, gaussians.means.double().numpy())
    assert np.abs(read / 255 - colors.numpy()).max() < 0.51 / 255


def test_points_without_colors_are_gray(tmp_path: Path) -> None:
    _, colors = read_seed_points(write(tmp_path / "points.ply", [(1, 2, 3)], POSITION))
    assert colors.tolist() == [[128, 128, 128]]


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("corners", [[(0, 1, 2), (1, 2, 0)], [(0, 1, 2), (2, 1, 0, 1)]], ids=["triangles", "mixed"])
def test_the_vertices_of_a_mesh_are_seed_points(tmp_path: Path, text: bool, corners: list[tuple]) -> None:
    rows = np.array([(0, 0, 0, *BYTES[0]), (1, 2, 3, *BYTES[1]), (4, 5, 6, *BYTES[1])], dtype=POSITION + COLOR)
    faces = np.empty(len(corners), dtype=[("vertex_indices", object)])
    faces["vertex_indices"] = [np.array(corner, dtype=np.int32) for corner in corners]
    elements = [plyfile.PlyElement.describe(rows, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    for order in (elements, elements[::-1]):
        plyfile.PlyData(order, text=text).write(str(tmp_path / "mesh.ply"))
        positions, colors = read_seed_points(tmp_path / "mesh.ply")
        assert positions.tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
        assert tuple(colors[0]) == BYTES[0]


def test_points_with_lists_are_read(tmp_path: Path) -> None:
    rows = np.empty(2, dtype=[*POSITION, ("tracks", object)])
    rows["x"], rows["y"], rows["z"] = (1, 4), (2, 5), (3, 6)
    rows["tracks"] = [np.array([1], dtype=np.int32), np.array([3, 4], dtype=np.int32)]
    vertices = plyfile.PlyElement.describe(rows, "vertex")
    for text in (True, False):
        plyfile.PlyData([vertices], text=text).write(str(tmp_path / "lists.ply"))
        assert read_seed_points(tmp_path / "lists.ply")[0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_an_empty_point_cloud_is_valid(tmp_path: Path) -> None:
    for text in (True, False):
        positions, colors = read_seed_points(write(tmp_path / "points.ply", [], POSITION, text))
        assert positions.shape == colors.shape == (0, 3)


@pytest.mark.parametrize("text", [True, False])
def test_points_that_are_not_finite_are_dropped_and_counted(
    tmp_path: Path, text: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(1, 2, 3, 1, 1, 1), (np.nan, 2, 3, 2, 2, 2), (4, np.inf, 6, 3, 3, 3), (7, 8, 9, 4, 4, 4)]
    positions, colors = read_seed_points(write(tmp_path / "points.ply", rows, POSITION + COLOR, text))
    assert positions.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert colors[:, 0].tolist() == [1, 4]
    assert "2 of 4 seed points are dropped" in caplog.text


def test_a_cloud_without_a_finite_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"None of the 2 seed points of .*nan\.ply has a finite position"):
        read_seed_points(write(tmp_path / "nan.ply", [(np.nan, 0, 0), (0, -np.inf, 0)], POSITION))


@pytest.mark.parametrize("text", [True, False])
def test_a_truncated_file_is_refused(tmp_path: Path, text: bool) -> None:
    path = write(tmp_path / "points.ply", [(1, 2, 3)] * 9, POSITION, text)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(GenLangSplatError, match=r"points\.ply cannot be read"):
        read_seed_points(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.ply").write_bytes(b"not a point cloud")
    with pytest.raises(GenLangSplatError, match="cannot be read"):
        read_seed_points(tmp_path / "noise.ply")
    with pytest.raises(GenLangSplatError, match="vertices x, y, z"):
        read_seed_points(write(tmp_path / "odd.ply", [(1,)], [("x", "f4")]))
    with pytest.raises(GenLangSplatError, match=r"no seed points at .*gone\.ply"):
        read_seed_points(tmp_path / "gone.ply")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("scan.las", "pdal translate"),
        ("scan.laz", "pdal translate"),
        ("scan.pcd", "CloudCompare"),
        ("scan.xyz", "CloudCompare"),
        ("points3D.bin", "colmap model_converter"),
    ],
)
def test_other_formats_are_refused_with_a_way_to_convert_them(tmp_path: Path, name: str, command: str) -> None:
    (tmp_path / name).write_bytes(b"LASF and so on")
    with pytest.raises(GenLangSplatError, match=rf"{name} cannot be read.*PLY.*`{command} "):
        read_seed_points(tmp_path / name)


def test_a_damaged_file_is_not_to_be_converted(tmp_path: Path) -> None:
    path = write(tmp_path / "points.ply", [(1.0, 2.0, 3.0)] * 9, [("x", "f4"), ("y", "f4"), ("z", "f4")])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(GenLangSplatError, match="cannot be read") as caught:
        read_seed_points(path)
    assert "convert" not in str(caught.value)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "points.ply").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 99\n")
    with pytest.raises(GenLangSplatError, match=r"points\.ply.*Git LFS pointer.*git lfs pull"):
        read_seed_points(tmp_path / "points.ply")
