"""Generates the gallery: a posed, labeled data set in nerfstudio's format, in seconds and without a download."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from genlangsplat_ns.demo.raycast import FIRST_RAY, Pinhole, Rendering, look_at, render
from genlangsplat_ns.demo.room import CATEGORIES, build_room
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import TextTarget
from genlangsplat_ns.evaluation.labels import LabeledObject, ViewLabels, mask_polygons
from genlangsplat_ns.evaluation.lerf_ovs import write_labels
from genlangsplat_ns.scene_io.ply_file import write_elements
from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.progress import track

EVAL_INTERVAL = 5
"""One of this many views is held out."""

MIN_VISIBLE_PIXELS = 60
MIN_VISIBLE_SHARE = 0.3
"""Objects with fewer visible pixels or a smaller visible share are not labeled, as they are not recognizable."""


TEXTS = {
    "cat": ("a cat", "a kitten"),
    "coffee": ("a cup of coffee", "a hot drink"),
    "temple": ("a temple", "a pagoda"),
    "motorcycle": ("a motorcycle", "a motorbike"),
    "space shuttle": ("a space shuttle", "a rocket"),
    "flower": ("a flower",),
    "photographer": ("a camera on a tripod", "a photographer"),
}
"""Texts that should find each category."""

QUERIES = tuple(TextTarget(text, category) for category, texts in TEXTS.items() for text in texts)
"""The queries of the demo."""


@dataclass(frozen=True)
class GallerySettings:
    """Size of the gallery data set."""

    num_views: int = 40
    """Number of views, in two rows on an arc."""
    width: int = 384
    height: int = 288
    num_points: int = 16_000
    """Number of seed points."""
    seed: int = 0
    """Random seed of textures, camera jitter and seed points."""

    def __post_init__(self) -> None:
        if self.num_views < EVAL_INTERVAL or min(self.width, self.height) < 16 or self.num_points < 1:
            raise GenLangSplatError(
                f"Found gallery settings of {self.num_views} views with {self.width}x{self.height} pixels and "
                f"{self.num_points} points; it needs at least {EVAL_INTERVAL} views with 16x16 pixels and one point. "
                "Use larger values."
            )


def camera_path(num_views: int, rng: np.random.Generator) -> list[Float[np.ndarray, "4 4"]]:
    """Camera-to-world matrices (OpenGL) on an inward-facing arc of 96 degrees, alternating between two heights."""
    poses = []
    for index, azimuth in enumerate(np.radians(np.linspace(-48, 48, num_views))):
        radius = rng.uniform(2.9, 3.5)
        height = (1.2 if index % 2 else 1.75) + rng.uniform(-0.12, 0.12)
        target = np.array([(-0.95, 0.0, 0.95)[index % 3], 1.1, 1.05]) + rng.uniform(-0.12, 0.12, 3)
        position = np.array([radius * np.sin(azimuth), 0.9 - radius * np.cos(azimuth), height])
        poses.append(look_at(position, target))
    return poses


def build_gallery(folder: Path, settings: GallerySettings | None = None) -> Path:
    """Writes the gallery as a nerfstudio data set, replaces files of an earlier one, and returns its folder.

    Writes `transforms.json` (including the split: every fifth view is held out), `images/*.png`, `sparse_pc.ply`
    (colored seed points on surfaces that the training views see) and `labels/<view>.json` (LERF-OVS labels from the
    exact geometry).

    Raises:
        GenLangSplatError: If the installed packages lack a photograph.
    """
    settings = settings or GallerySettings()
    rng = np.random.default_rng(settings.seed)
    surfaces = build_room(settings.seed)
    camera = Pinhole(settings.width, settings.height, focal=0.9 * settings.width)
    poses = camera_path(settings.num_views, rng)
    names = [f"{index:04d}.png" for index in range(1, settings.num_views + 1)]
    held_out = {name for index, name in enumerate(names) if index % EVAL_INTERVAL == EVAL_INTERVAL // 2}
    points_per_view = -(-settings.num_points // (len(names) - len(held_out)))
    points: list[tuple[np.ndarray, np.ndarray]] = []
    for name, pose in track(list(zip(names, poses, strict=True)), "Building the gallery"):
        rendering = render(surfaces, pose, camera, len(CATEGORIES))
        with atomic_path(folder / "images" / name) as path:
            Image.fromarray(_eight_bit(rendering.rgb)).save(path)
        write_labels(folder / "labels" / f"{Path(name).stem}.json", label_view(name, rendering))
        if name not in held_out:
            points.append(_sample_points(rendering, pose, camera, points_per_view, rng))
    positions, colors = (np.concatenate(column)[: settings.num_points] for column in zip(*points, strict=True))
    _write_points(folder / "sparse_pc.ply", positions, colors)
    _write_transforms(folder / "transforms.json", camera, names, poses, held_out)
    return folder


def label_view(name: str, rendering: Rendering) -> ViewLabels:
    """Labels the visible part of each object. Every connected component becomes an entry of the object's category."""
    height, width = rendering.rgb.shape[:2]
    objects = []
    for category, coverage, extent in zip(CATEGORIES, rendering.coverage, rendering.extent, strict=True):
        if coverage.sum() >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * extent):
            polygons = mask_polygons(coverage >= 0.5, min_pixels=MIN_VISIBLE_PIXELS // 6)
            objects += [LabeledObject.from_polygon(category, polygon) for polygon in polygons]
    return ViewLabels(name=name, width=width, height=height, objects=tuple(objects))


def _sample_points(
    rendering: Rendering, pose: np.ndarray, camera: Pinhole, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns world positions and colors of randomly chosen pixels."""
    rows, columns = np.nonzero(np.isfinite(rendering.depth))
    chosen = rng.choice(len(rows), size=min(count, len(rows)), replace=False)
    rows, columns = rows[chosen], columns[chosen]
    depth = rendering.depth[rows, columns]
    x = (columns + FIRST_RAY - camera.width / 2) / camera.focal * depth
    y = (rows + FIRST_RAY - camera.height / 2) / camera.focal * depth
    positions = np.stack([x, -y, -depth], axis=1) @ pose[:3, :3].T + pose[:3, 3]
    return positions, _eight_bit(rendering.rgb[rows, columns])


def _eight_bit(colors: Float[np.ndarray, "*size 3"]) -> UInt8[np.ndarray, "*size 3"]:
    return (colors * 255).round().astype(np.uint8)


def _write_points(path: Path, points: np.ndarray, colors: np.ndarray) -> None:
    """Writes a binary PLY of positions and colors."""
    names = ["x", "y", "z", "red", "green", "blue"]
    rows = np.rec.fromarrays([*points.T, *colors.T], names=names, formats=["<f4"] * 3 + ["u1"] * 3)
    with atomic_path(path) as temporary:
        write_elements(temporary, {"vertex": rows})


def _write_transforms(
    path: Path, camera: Pinhole, names: list[str], poses: list[np.ndarray], held_out: set[str]
) -> None:
    files = [f"images/{name}" for name in names]
    held_out_files = [f"images/{name}" for name in names if name in held_out]
    transforms = {
        "camera_model": "OPENCV",
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.focal,
        "fl_y": camera.focal,
        "cx": camera.width / 2,
        "cy": camera.height / 2,
        "ply_file_path": "sparse_pc.ply",
        "train_filenames": [file for file in files if file not in held_out_files],
        "val_filenames": held_out_files,
        "test_filenames": held_out_files,
        "frames": [
            {"file_path": file, "transform_matrix": pose.tolist()} for file, pose in zip(files, poses, strict=True)
        ],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(transforms, indent=1) + "\n")
