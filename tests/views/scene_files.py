"""Writes small scenes in the formats that people have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.utils import colmap_parsing_utils as colmap
from PIL import Image
from scipy.spatial.transform import Rotation

from genlangsplat_ns.dataparser import choose_parser

SIZE = (32, 24)

NAMES = [f"images/{number:02d}.png" for number in range(12)]


def write_pictures(folder: Path, names: Sequence[str], size: tuple[int, int] = SIZE) -> None:
    """Writes one small picture per name."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
        Image.new("RGB", size, (20 * number % 255, 100, 100)).save(path, format=kind)


def ellipse_poses(count: int, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Camera-to-world poses (y up, looking along -z) on a tilted ellipse that look at its center."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, angle in zip(poses, np.linspace(0, 2 * np.pi, count, endpoint=False), strict=True):
        position = np.array([3 * np.cos(angle), 2 * np.sin(angle), 1.0 + 0.4 * np.cos(angle + 1)])
        backward = position / np.linalg.norm(position)
        right = np.cross([0.0, 0.0, 1.0], backward)
        right /= np.linalg.norm(right)
        pose[:3, :3] = np.column_stack([right, np.cross(backward, right), backward])
        pose[:3, 3] = position + center
    return poses


def write_transforms(
    folder: Path, names: Sequence[str], poses: np.ndarray | None = None, frame: Any = None, **shared: Any
) -> Path:
    """Writes transforms.json for names of photographs; `frame` has further entries of every frame."""
    poses = ellipse_poses(len(names)) if poses is None else poses
    frames = [
        {"file_path": name, "transform_matrix": pose.tolist(), **(frame or {})}
        for name, pose in zip(names, poses, strict=True)
    ]
    lens = {"fl_x": 30.0, "fl_y": 30.0, "cx": 16.0, "cy": 12.0, "w": SIZE[0], "h": SIZE[1]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps({**lens, **shared, "frames": frames}))
    return folder


def write_colmap(
    model: Path,
    names: Sequence[str],
    camera: tuple[str, Sequence[float]] = ("PINHOLE", (30.0, 30.0, 16.0, 12.0)),
    size: tuple[int, int] = SIZE,
    poses: np.ndarray | None = None,
    binary: bool = False,
) -> None:
    """Writes a COLMAP model of cameras with these poses, and 20 points around the origin."""
    model.mkdir(parents=True, exist_ok=True)
    poses = ellipse_poses(len(names)) if poses is None else poses
    cameras = {1: colmap.Camera(id=1, model=camera[0], width=size[0], height=size[1], params=np.array(camera[1]))}
    images = {}
    for number, (name, pose) in enumerate(zip(names, poses, strict=True), start=1):
        rotation = (pose[:3, :3] * [1, -1, -1]).T
        x, y, z, w = Rotation.from_matrix(rotation).as_quat()
        images[number] = colmap.Image(
            id=number,
            qvec=np.array([w, x, y, z]),
            tvec=-rotation @ pose[:3, 3],
            camera_id=1,
            name=name,
            xys=np.zeros((0, 2)),
            point3D_ids=np.zeros(0, dtype=int),
        )
    positions = np.random.default_rng(0).normal(size=(20, 3)) + poses[:, :3, 3].mean(axis=0)
    points = {
        number: colmap.Point3D(
            id=number,
            xyz=position,
            rgb=np.array([number, 2, 3], dtype=np.uint8),
            error=0.5,
            image_ids=np.array([1, 2], dtype=int),
            point2D_idxs=np.array([0, 0], dtype=int),
        )
        for number, position in enumerate(positions, start=1)
    }
    if binary:
        colmap.write_cameras_binary(cameras, model / "cameras.bin")
        colmap.write_images_binary(images, model / "images.bin")
        colmap.write_points3D_binary(points, model / "points3D.bin")
    else:
        colmap.write_cameras_text(cameras, model / "cameras.txt")
        colmap.write_images_text(images, model / "images.txt")
        colmap.write_points3D_text(points, model / "points3D.txt")


def parse(config: DataParserConfig, split: str = "train") -> Any:
    """The outputs of our parser."""
    return choose_parser(deepcopy(config)).setup().get_dataparser_outputs(split)


def nerfstudio_scene(folder: Path, names: list[str] = NAMES, **shared: Any) -> Path:
    """Writes photographs and their transforms.json."""
    write_pictures(folder, names)
    return write_transforms(folder, names, **shared)


def colmap_scene(folder: Path, model: str = "sparse/0", names: list[str] | None = None, **options: Any) -> Path:
    """Writes photographs and their COLMAP model."""
    names = [Path(name).name for name in NAMES] if names is None else names
    write_pictures(folder / "images", names)
    write_colmap(folder / model, names, **options)
    return folder


def write_points(folder: Path, positions: np.ndarray) -> None:
    """Writes seed points in double precision."""
    vertices = np.zeros(len(positions), dtype=[("x", "f8"), ("y", "f8"), ("z", "f8")])
    for column, axis in enumerate("xyz"):
        vertices[axis] = positions[:, column]
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")]).write(str(folder / "points.ply"))
    document = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps({**document, "ply_file_path": "points.ply"}))
