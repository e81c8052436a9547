"""Synthetic scenes of the layout of LERF-OVS and 3D-OVS: the gallery of the demo, seen by other cameras in each scene.

Names of photographs, folders, COLMAP models and labels are those of the real data; photographs are fewer and smaller.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from nerfstudio.data.utils import colmap_parsing_utils as colmap
from PIL import Image
from scipy.spatial.transform import Rotation

from genlangsplat_ns.demo.gallery import camera_path, label_view
from genlangsplat_ns.demo.raycast import FIRST_RAY, Pinhole, Rendering, render
from genlangsplat_ns.demo.room import CATEGORIES, build_room
from genlangsplat_ns.evaluation.lerf_ovs import write_labels
from genlangsplat_ns.utils.files import atomic_folder
from paper.scenes import DATA_SETS, SCENES

FOLDERS = {"lerf-ovs": "lerf_ovs", "3d-ovs": "3d-ovs"}
"""Folder of each data set."""

CAMERAS = {
    "lerf-ovs": (Pinhole(247, 183, 220.0), "PINHOLE"),
    "3d-ovs": (Pinhole(180, 135, 160.0), "SIMPLE_RADIAL"),
}
"""Photographs of a fourth and an eighth of the real side, and the lens model in the COLMAP model."""

LABELED_FRAMES = {
    "ramen": (6, 24, 60, 65, 81, 119, 128),
    "figurines": (41, 105, 152, 195),
    "teatime": (2, 25, 43, 107, 129, 140),
    "waldo_kitchen": (53, 66, 89, 140, 154),
}
"""Numbers of the labeled photographs of LERF-OVS."""

LABELED_3D_OVS = (0, 2, 5)
"""Numbers of the photographs with masks in the stand-in of a scene of 3D-OVS."""

VIEWS = 8
POINTS_PER_VIEW = 300

TO_COLMAP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""From the world of the gallery, where z is up, to COLMAP's usual one, where y is down."""


def write_stand_in(folder: Path, names: Iterable[str]) -> list[Path]:
    """Writes scenes that are not there yet, and returns the folders of the data sets."""
    names = list(names)
    for name in names:
        place = folder / FOLDERS[SCENES[name]] / name
        if not place.is_dir():
            _write_scene(place, name)
    return [folder / FOLDERS[kind] for kind in DATA_SETS if any(SCENES[name] == kind for name in names)]


def photograph_names(name: str) -> tuple[list[str], set[str]]:
    """Returns the names of the photographs of a scene, and of those that are labeled."""
    if SCENES[name] == "3d-ovs":
        return [f"{number:02d}.jpg" for number in range(VIEWS)], {f"{number:02d}.jpg" for number in LABELED_3D_OVS}
    labeled = LABELED_FRAMES[name]
    others = [number for number in range(1, VIEWS + len(labeled)) if number not in labeled][: VIEWS - len(labeled)]
    return (
        [f"frame_{number:05d}.jpg" for number in sorted((*labeled, *others))],
        {f"frame_{number:05d}.jpg" for number in labeled},
    )


def _write_scene(place: Path, name: str) -> None:
    """Writes the photographs, the COLMAP model and the labels of a scene; the folder of the scene appears last."""
    camera, lens = CAMERAS[SCENES[name]]
    rng = np.random.default_rng(list(SCENES).index(name))
    surfaces = build_room(list(SCENES).index(name))
    names, labeled = photograph_names(name)
    poses = camera_path(len(names), rng)
    points: list[tuple[np.ndarray, np.ndarray]] = []
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(place) as folder:
        (folder / "images").mkdir()
        for photograph, pose in zip(names, poses, strict=True):
            rendering = render(surfaces, pose, camera, len(CATEGORIES))
            picture = Image.fromarray((255 * rendering.rgb).round().astype(np.uint8))
            picture.save(folder / "images" / photograph, quality=95)
            points.append(_visible_points(rendering, pose, camera, rng))
            if photograph not in labeled:
                continue
            if SCENES[name] == "lerf-ovs":
                beside = place.parent / "label" / name / photograph
                write_labels(beside.with_suffix(".json"), label_view(photograph, rendering))
                picture.save(beside, quality=95)
            else:
                _write_masks(folder / "segmentations" / Path(photograph).stem, rendering)
        if SCENES[name] == "3d-ovs":
            text = "".join(f"{category}\n" for category in CATEGORIES)
            (folder / "segmentations" / "classes.txt").write_text(text, encoding="utf-8")
        _write_model(folder / "sparse" / "0", names, poses, camera, lens, points)


def _write_masks(folder: Path, rendering: Rendering) -> None:
    """Writes a mask for every object that is labeled in a view."""
    folder.mkdir(parents=True)
    labels = label_view(folder.name, rendering)
    for category in labels.categories:
        mask = labels.truth(category).mask
        Image.fromarray(255 * mask.astype(np.uint8)).save(folder / f"{category}.png")


def _visible_points(
    rendering: Rendering, pose: Float[np.ndarray, "4 4"], camera: Pinhole, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "points 3"], np.ndarray]:
    """Returns world positions and colors of some pixels."""
    rows, columns = np.nonzero(np.isfinite(rendering.depth))
    chosen = rng.choice(len(rows), min(POINTS_PER_VIEW, len(rows)), replace=False)
    rows, columns = rows[chosen], columns[chosen]
    depth = rendering.depth[rows, columns]
    right = (columns + FIRST_RAY - camera.width / 2) / camera.focal
    down = (rows + FIRST_RAY - camera.height / 2) / camera.focal
    in_camera = depth[:, None] * np.stack([right, -down, -np.ones_like(right)], axis=1)
    colors = (255 * rendering.rgb[rows, columns]).round().astype(np.uint8)
    return in_camera @ pose[:3, :3].T + pose[:3, 3], colors


def _write_model(
    folder: Path,
    names: list[str],
    poses: list[Float[np.ndarray, "4 4"]],
    camera: Pinhole,
    lens: str,
    points: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Writes a binary COLMAP model of one camera."""
    folder.mkdir(parents=True)
    center = [camera.width / 2, camera.height / 2]
    terms = [camera.focal, camera.focal, *center] if lens == "PINHOLE" else [camera.focal, *center, 0.0]
    cameras = {1: colmap.Camera(1, lens, camera.width, camera.height, np.array(terms))}
    images = {}
    for number, (name, pose) in enumerate(zip(names, poses, strict=True), start=1):
        # COLMAP stores the transform from the world to a camera with y down and z forward.
        turn = (TO_COLMAP @ pose[:3, :3] * np.array([1, -1, -1])).T
        x, y, z, w = Rotation.from_matrix(turn).as_quat()
        shift = -turn @ TO_COLMAP @ pose[:3, 3]
        nothing = (np.zeros((0, 2)), np.zeros(0, dtype=int))
        images[number] = colmap.Image(number, np.array([w, x, y, z]), shift, 1, name, *nothing)
    positions, colors = (np.concatenate(column) for column in zip(*points, strict=True))
    track = (0.5, np.array([1, 2], dtype=int), np.array([0, 0], dtype=int))
    cloud = {
        number: colmap.Point3D(number, position, color, *track)
        for number, (position, color) in enumerate(zip(positions @ TO_COLMAP.T, colors, strict=True), start=1)
    }
    colmap.write_cameras_binary(cameras, folder / "cameras.bin")
    colmap.write_images_binary(images, folder / "images.bin")
    colmap.write_points3D_binary(cloud, folder / "points3D.bin")
