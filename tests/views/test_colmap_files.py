"""Files of COLMAP models: as nerfstudio reads them, and without trust in the counts in them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from genlangsplat_ns.views.colmap_files import UnknownModelError, read_cameras, read_images, read_points
from tests.views.scene_files import write_colmap

NAMES = ["a.png", "with blanks.png", "folder/b.png"]


@pytest.fixture(params=["txt", "bin"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A model and the ending of its files."""
    names = NAMES if request.param == "bin" else [name for name in NAMES if " " not in name]
    write_colmap(tmp_path, names, ("OPENCV", range(8)), binary=request.param == "bin")
    return tmp_path, request.param


def test_models_are_read_as_nerfstudio_reads_them(model: tuple[Path, str]) -> None:
    folder, ending = model
    kinds = ("text" if ending == "txt" else "binary",)
    theirs = {
        name: getattr(colmap, f"read_{name}_{kinds[0]}")(folder / f"{name}.{ending}")
        for name in ("cameras", "images", "points3D")
    }
    cameras, images = read_cameras(folder / f"cameras.{ending}"), read_images(folder / f"images.{ending}")
    assert cameras.keys() == theirs["cameras"].keys() and images.keys() == theirs["images"].keys()
    for number, camera in theirs["cameras"].items():
        own = cameras[number]
        assert (own.model, own.width, own.height) == (camera.model, camera.width, camera.height)
        assert own.parameters == tuple(camera.params)
    for number, image in theirs["images"].items():
        own_image = images[number]
        assert (own_image.name, own_image.camera) == (image.name, image.camera_id)
        assert own_image.rotation == tuple(image.qvec) and own_image.translation == tuple(image.tvec)
    positions, colors = read_points(folder / f"points3D.{ending}")
    assert np.array_equal(positions, [point.xyz for point in theirs["points3D"].values()])
    assert np.array_equal(colors, [point.rgb for point in theirs["points3D"].values()])


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("count", [1 << 32, (1 << 64) - 1])
def test_a_count_beyond_the_file_takes_no_memory(tmp_path: Path, name: str, count: int) -> None:
    write_colmap(tmp_path, NAMES, binary=True)
    path = tmp_path / f"{name}.bin"
    path.write_bytes(struct.pack("<Q", count) + path.read_bytes()[8:])
    read = {"cameras": read_cameras, "images": read_images, "points3D": read_points}[name]
    with pytest.raises(ValueError, match="bytes, expected at least"):
        read(path)


def test_numbers_of_observations_beyond_the_file_take_no_memory(tmp_path: Path) -> None:
    image = struct.pack("<Qi7di", 1, 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"a.png\0" + struct.pack("<Q", 1 << 60)
    (tmp_path / "images.bin").write_bytes(image)
    with pytest.raises(ValueError, match="it ends within the 1,152,921,504,606,846,976 points of image 1"):
        read_images(tmp_path / "images.bin")
    point = struct.pack("<QQ3d3BdQ", 1, 1, 0, 0, 0, 1, 2, 3, 0.5, 1 << 60)
    (tmp_path / "points3D.bin").write_bytes(point)
    with pytest.raises(ValueError, match="it ends within point 1 of 1"):
        read_points(tmp_path / "points3D.bin")


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("cameras.txt", "1 PINHOLE 32", "expected a number, a model, two sizes and parameters"),
        ("cameras.txt", "1 PINHOLE 0 24 30 30 16 12", "has 0x24 pixels"),
        ("cameras.txt", "1 PINHOLE wide 24 30 30 16 12", "invalid literal"),
        ("cameras.txt", f"{1 << 70} PINHOLE 32 24 30", "expected at most 63 bits"),
        ("images.txt", "1 1 0 0 0 0 0 0 1", "expected ten fields"),
        ("images.txt", "1 nan 0 0 0 0 0 0 1 a.png", "is not finite or has no rotation"),
        ("images.txt", "1 0 0 0 0 0 0 0 1 a.png", "is not finite or has no rotation"),
        ("points3D.txt", "1 0 0 0 1 2", "expected a number, a position and a color"),
        ("points3D.txt", "1 0 0 0 1 2 256 0.5", "colors that are not from 0 to 255"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, name: str, line: str, message: str) -> None:
    (tmp_path / name).write_text(f"# a comment\n{line}\n")
    read = {"cameras.txt": read_cameras, "images.txt": read_images, "points3D.txt": read_points}[name]
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_unknown_models_are_told_apart_from_damage(tmp_path: Path) -> None:
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QiiQQ", 1, 1, 99, 32, 24))
    with pytest.raises(UnknownModelError, match="a camera model with the number 99"):
        read_cameras(tmp_path / "cameras.bin")
