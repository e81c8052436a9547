"""Writes a scene in nerfstudio's format: transforms.json and the seed points."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from genlangsplat_ns.photographs.solver import SolvedLens, SolvedModel, SolvedPhotograph
from genlangsplat_ns.scene_io.ply_file import write_elements
from genlangsplat_ns.utils.files import atomic_path

SCENE_FILE = "transforms.json"
SEED_FILE = "sparse_pc.ply"

APPLIED = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])
"""Turns COLMAP's coordinates, in which y points down if the first camera is upright, so that z points up."""

PARAMETERS = {
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
    "OPENCV_FISHEYE": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4"),
}
"""nerfstudio's names of the parameters of COLMAP's lens models, in COLMAP's order."""


def write_scene(scene: Path, model: SolvedModel, images: str, masks: Mapping[str, str]) -> None:
    """Writes the seed points, and then transforms.json.

    Args:
        scene: Folder of the scene.
        model: Cameras and points.
        images: Folder of the photographs, relative to the scene.
        masks: Path of the mask of photographs that have one, relative to the scene.
    """
    with atomic_path(scene / SEED_FILE) as temporary:
        write_elements(temporary, {"vertex": _seed_points(model)})
    lenses = {number: lens_entries(lens) for number, lens in model.lenses.items()}
    used = {photograph.lens for photograph in model.photographs}
    shared = lenses[used.pop()] if len(used) == 1 else {}
    frames = []
    for photograph in model.photographs:
        frame: dict[str, Any] = {"file_path": f"{images}/{photograph.name}"}
        frame |= {} if shared else lenses[photograph.lens]
        if photograph.name in masks:
            frame["mask_path"] = masks[photograph.name]
        frames.append({**frame, "transform_matrix": camera_to_world(photograph).tolist()})
    document = {
        **shared,
        "frames": frames,
        "applied_transform": APPLIED.tolist(),
        "ply_file_path": SEED_FILE,
    }
    with atomic_path(scene / SCENE_FILE) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def lens_entries(lens: SolvedLens) -> dict[str, Any]:
    """Returns the entries of transforms.json for a lens."""
    values = dict(zip(PARAMETERS[lens.model], lens.parameters, strict=True))
    if "f" in values:
        focal = values.pop("f")
        values = {"fl_x": focal, "fl_y": focal, **values}
    fisheye = {"is_fisheye": True} if lens.model == "OPENCV_FISHEYE" else {}
    model = "OPENCV" if lens.model == "SIMPLE_RADIAL" else lens.model
    return {"camera_model": model, "w": lens.width, "h": lens.height, **values, **fisheye}


def camera_to_world(photograph: SolvedPhotograph) -> Float64[np.ndarray, "4 4"]:
    """Returns the pose with nerfstudio's camera axes (x right, y up, z backwards), z pointing up in the world."""
    pose = np.eye(4)
    pose[:3, :3] = APPLIED[:, :3] @ photograph.rotation.T @ np.diag([1.0, -1.0, -1.0])
    pose[:3, 3] = APPLIED[:, :3] @ (-photograph.rotation.T @ photograph.translation)
    return pose


def _seed_points(model: SolvedModel) -> Shaped[np.ndarray, " num_points"]:
    columns = [*((axis, "f4") for axis in "xyz"), *((color, "u1") for color in ("red", "green", "blue"))]
    vertices = np.empty(len(model.positions), dtype=columns)
    for index, axis in enumerate("xyz"):
        vertices[axis] = (model.positions @ APPLIED[:, :3].T)[:, index]
    for index, color in enumerate(("red", "green", "blue")):
        vertices[color] = model.colors[:, index]
    return vertices
