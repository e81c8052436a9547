"""Reading seed points from PLY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plyfile
import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.seed_points import read_seed_points

POSITION = [("x", "f4"), ("y", "f4"), ("z", "f4")]
COLOR = [("red", "u1"), ("green", "u1"), ("blue", "u1")]


def write(path: Path, rows: list[tuple], columns: list[tuple[str, str]], text: bool = False) -> Path:
    vertices = plyfile.PlyElement.describe(np.array(rows, dtype=columns), "vertex")
    plyfile.PlyData([vertices], text=text).write(str(path))
    return path


@pytest.mark.parametrize("text", [True, False])
def test_positions_and_colors_come_back(tmp_path: Path, text: bool) -> None:
    path = write(tmp_path / "points.ply", [(1, 2, 3, 10, 20, 30), (4, 5, 6, 40, 50, 60)], POSITION + COLOR, text)
    positions, colors = read_seed_points(path)
    assert positions.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert colors.tolist() == [[10, 20, 30], [40, 50, 60]]


def test_points_without_colors_are_gray(tmp_path: Path) -> None:
    _, colors = read_seed_points(write(tmp_path / "points.ply", [(1, 2, 3)], POSITION))
    assert colors.tolist() == [[128, 128, 128]]


def test_an_empty_point_cloud_is_valid(tmp_path: Path) -> None:
    positions, colors = read_seed_points(write(tmp_path / "points.ply", [], POSITION))
    assert positions.shape == colors.shape == (0, 3)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.ply").write_bytes(b"not a point cloud")
    with pytest.raises(GenLangSplatError, match="cannot be read"):
        read_seed_points(tmp_path / "noise.ply")
    with pytest.raises(GenLangSplatError, match="vertices x, y, z"):
        read_seed_points(write(tmp_path / "odd.ply", [(1,)], [("x", "f4")]))
