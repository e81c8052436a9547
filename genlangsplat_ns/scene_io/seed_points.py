"""Seed points: colored points of a PLY file that initialize Gaussians."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plyfile
from jaxtyping import Float32, UInt8

from genlangsplat_ns.errors import GenLangSplatError

GRAY = 128


def read_seed_points(path: Path) -> tuple[Float32[np.ndarray, "count 3"], UInt8[np.ndarray, "count 3"]]:
    """Reads the positions and colors of a point cloud. Points without colors are gray.

    Raises:
        GenLangSplatError: The file is not a PLY file, or its vertices have no positions.
    """
    try:
        vertices = plyfile.PlyData.read(str(path))["vertex"]
        positions = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32)
    except (plyfile.PlyParseError, plyfile.PlyHeaderParseError, KeyError, ValueError) as error:
        raise GenLangSplatError(
            f"The seed points {path} cannot be read ({error}); expected a PLY file with vertices x, y, z. Replace it, "
            "or remove ply_file_path from transforms.json to start from random points."
        ) from error
    names = {item.name for item in vertices.properties}
    if {"red", "green", "blue"} <= names:
        colors = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1).astype(np.uint8)
    else:
        colors = np.full(positions.shape, GRAY, dtype=np.uint8)
    return positions, colors
