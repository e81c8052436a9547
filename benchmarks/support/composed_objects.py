"""The contents of a composed scene: named objects of the splat collection, a table in a room, and cameras around it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64, UInt8
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import Gaussians, View, compositing_weights

OBJECT_SIZE = 0.5
"""Side of the square with about the area of an object; all other lengths of the scene scale with it."""

MAX_OPACITY = 0.99
"""Opacity of the collection's opaque Gaussians, so that no value is at the end of its range."""

FOOTPRINT_POINTS = 500
"""Number of points of an object that are kept clear of other objects when it is placed."""

ELEVATIONS = (22.0, 38.0, 55.0)
"""Heights of the cameras in degrees above the table, used in turn."""

MIN_OPACITY = 0.5
"""A pixel with less opacity counts as empty."""

RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("quat", "u1", 4)])
"""One Gaussian of a .splat file."""


@dataclass(frozen=True)
class SplatObject:
    """An object of the collection that has a word in the LVIS vocabulary."""

    file: str
    """Name of its .splat file."""
    word: str
    """Its LVIS name."""
    color: tuple[float, float, float] | None = None
    """The color that replaces terracotta; None keeps the colors of a real capture."""
    up: tuple[int, int, int] = (0, -1, 0)
    """The axis of the file that points up when the object is at rest."""


CATALOG: tuple[SplatObject, ...] = (
    SplatObject("boat_10k.splat", "boat", (0.88, 0.90, 0.95)),
    SplatObject("boot_10k.splat", "boot", (0.62, 0.40, 0.20)),
    SplatObject("cat_10k.splat", "cat", (0.92, 0.62, 0.30)),
    SplatObject("fish_10k.splat", "fish", (0.30, 0.58, 0.85)),
    SplatObject("hammer_10k.splat", "hammer", (0.48, 0.50, 0.56)),
    SplatObject("koala_10k.splat", "koala", (0.66, 0.64, 0.66)),
    SplatObject("penguin_10k.splat", "penguin", (0.24, 0.26, 0.34)),
    SplatObject("pizza_10k.splat", "pizza", (0.97, 0.74, 0.32)),
    SplatObject("ring_10k.splat", "ring", (0.96, 0.80, 0.30), up=(0, 0, 1)),
    SplatObject("sword_10k.splat", "sword", (0.80, 0.84, 0.90), up=(1, 0, 0)),
    SplatObject("teapot_10k.splat", "teapot", (0.26, 0.66, 0.60)),
    SplatObject("violin_10k.splat", "violin", (0.62, 0.26, 0.12)),
    SplatObject("plane_10k.splat", "airplane", (0.92, 0.93, 0.98), up=(0, 0, 1)),
    SplatObject("plant.splat", "flowerpot"),
)
"""All available objects."""

BACKGROUND: tuple[str, ...] = ("table", "floor", "wall 1", "wall 2", "wall 3", "wall 4")
"""The patches of the background, in the order of their indices."""


@dataclass(frozen=True, eq=False)
class LabeledGaussians(Gaussians):
    """Gaussians with unit rotations, colors and their exact labels; z points up."""

    colors: Float[Tensor, "num_gaussians 3"]
    """Colors in 0..1, the same from all sides."""
    objects: Int64[Tensor, " num_gaussians"]
    """Index of the object of each Gaussian, -1 for the background."""
    patches: Int64[Tensor, " num_gaussians"]
    """Index in `BACKGROUND` of the patch of each Gaussian, -1 for the objects."""


@dataclass(frozen=True, eq=False)
class SplitView(View):
    """A view that belongs to a split of the data."""

    split: str
    """`train` or `eval`."""


def join(parts: list[LabeledGaussians]) -> LabeledGaussians:
    """All Gaussians of the parts, in their order."""
    return LabeledGaussians(
        **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(parts[0])}
    )


def read_words(folder: Path) -> tuple[list[str], Float[Tensor, "num_words embedding_dim"]]:
    """The LVIS names and the unit CLIP vectors of their texts ("a " and the name).

    Args:
        folder: The folder of all data sets.
    """
    texts = folder / "clip_text_embeddings_detic"
    vectors = torch.from_numpy(np.load(texts / "lvis_v1_clip_a+cname.npy").astype(np.float32))
    return json.loads((texts / "lvis_names.json").read_text()), torch.nn.functional.normalize(vectors, dim=1)


def draw_objects(count: int, random: np.random.Generator) -> list[SplatObject]:
    """Draws distinct objects from the catalog.

    Raises:
        GenLangSplatError: If the catalog has fewer objects.
    """
    if not 1 <= count <= len(CATALOG):
        raise GenLangSplatError(f"Found num_objects={count}; use 1 to {len(CATALOG)}, the size of the catalog.")
    return [CATALOG[index] for index in random.permutation(len(CATALOG))[:count]]


def read_object(folder: Path, item: SplatObject, limit: int, random: np.random.Generator) -> LabeledGaussians:
    """Reads an object, thins it out, brings it to the common size and stands it on z = 0 in a random direction.

    Args:
        folder: The folder of all data sets.
        item: The object.
        limit: Maximum number of Gaussians. The remaining ones are enlarged along their two longer axes in proportion to
            their spacing, but not beyond their neighbors, so that surfaces stay closed, thin and sharp.
        random: Draws the selection, the direction and the texture.
    """
    data = np.fromfile(folder / "splat_objects" / item.file, dtype=RECORD)
    # Captures have a haze of faint Gaussians, which would grow into a cloud around the object.
    chances = data["color"][:, 3] / data["color"][:, 3].sum(dtype=np.float64)
    kept = np.sort(random.choice(len(data), min(limit, len(data)), replace=False, p=chances))
    growth = np.sqrt(len(data) / len(kept))
    data = data[kept]
    scales = data["scale"].copy()
    spacing = cKDTree(data["mean"]).query(data["mean"], k=5)[0][:, 1:].mean(axis=1, keepdims=True)
    grown = np.clip(scales * growth, scales, np.maximum(scales, spacing))
    np.put_along_axis(grown, scales.argmin(axis=1)[:, None], scales.min(axis=1)[:, None], axis=1)
    quats = (data["quat"].astype(np.float64) - 128) / 128

    upright, _ = Rotation.align_vectors([[0.0, 0.0, 1.0]], [item.up])
    turn = Rotation.from_euler("z", random.uniform(0, 2 * np.pi)) * upright
    # Most objects have their own coordinate frame; a few protruding points must not determine the size.
    low, high = np.quantile(data["mean"], [0.005, 0.995], axis=0)
    sides = np.sort(high - low)
    size = OBJECT_SIZE * min(1 / np.sqrt(sides[1] * sides[2]), 1.6 / sides[2])
    means = turn.apply(data["mean"].astype(np.float64)) * size
    means -= [*(means[:, :2].min(axis=0) + means[:, :2].max(axis=0)) / 2, np.quantile(means[:, 2], 0.005)]
    rotations = (turn * Rotation.from_quat(quats[:, [1, 2, 3, 0]])).as_quat()

    colors = data["color"][:, :3] / 255.0
    if item.color is not None:
        # The red channel of terracotta has the baked shading.
        shading = colors[:, :1] / np.quantile(colors[:, 0], 0.98)
        markings = 0.85 + 0.15 * waves(means / OBJECT_SIZE, random, frequency=12.0, count=4)
        colors = np.clip(shading * markings[:, None] * item.color, 0, 1)
    count = len(data)
    return LabeledGaussians(
        means=_tensor(means),
        quats=_tensor(rotations[:, [3, 0, 1, 2]]),
        scales=_tensor(grown * size),
        opacities=_tensor(data["color"][:, 3] / 255.0 * MAX_OPACITY),
        colors=_tensor(colors),
        objects=torch.zeros(count, dtype=torch.int64),
        patches=torch.full((count,), -1, dtype=torch.int64),
    )


def place(objects: list[LabeledGaussians], random: np.random.Generator) -> tuple[list[LabeledGaussians], float]:
    """Moves the objects side by side without overlap, as close to the middle as random tries find room.

    Args:
        objects: Objects on z = 0 above the origin.
        random: Draws the positions.

    Returns:
        The placed objects with their indices, and the radius of the circle around them.
    """
    gap, step = 0.2 * OBJECT_SIZE, 0.02 * OBJECT_SIZE
    taken: list[np.ndarray] = []
    placed: list[np.ndarray] = []
    for gaussians in objects:
        ground = gaussians.means[:, :2].numpy()
        outline = ground[random.permutation(len(ground))[:FOOTPRINT_POINTS]]
        tree = cKDTree(np.concatenate(taken)) if taken else None
        radius = 0.0
        while True:
            angle = random.uniform(0, 2 * np.pi)
            offset = radius * np.array([np.cos(angle), np.sin(angle)])
            if tree is None or tree.query(outline + offset)[0].min() > gap:
                break
            radius += step
        taken.append(outline + offset)
        placed.append(offset)
    ground = np.concatenate(taken)
    middle = (ground.min(axis=0) + ground.max(axis=0)) / 2
    moved = [
        replace(
            gaussians,
            means=gaussians.means + _tensor(np.array([*(offset - middle), 0.0])),
            objects=torch.full_like(gaussians.objects, index),
        )
        for index, (gaussians, offset) in enumerate(zip(objects, placed, strict=True))
    ]
    return moved, float(np.linalg.norm(ground - middle, axis=1).max())


def make_room(radius: float, random: np.random.Generator) -> LabeledGaussians:
    """A table top at z = 0, a floor below it and four walls around, each with a texture of its own.

    Args:
        radius: Radius of the circle around the objects.
        random: Draws the textures.
    """
    table, room, depth, height = 1.25 * radius, 4.0 * radius, 0.8 * radius, 4.5 * radius
    # Every sheet extends a little behind the next one, because its Gaussians fade out along its edges.
    reach = 1.05 * room
    parts = [
        _plane([0, 0, 0], [table, 0, 0], [0, table, 0], (110, 110), 0, random),
        _plane([0, 0, -depth], [reach, 0, 0], [0, reach, 0], (72, 72), 1, random),
    ]
    for side in range(4):
        along, away = np.roll([[0, 1, 0], [1, 0, 0]], side, axis=0) * (-1 if side > 1 else 1)
        middle = room * away + np.array([0, 0, height / 2 - 1.1 * depth])
        parts.append(_plane(middle, reach * along, np.array([0, 0, height / 2]), (64, 36), 2 + side, random))
    return join(parts)


def waves(
    points: Float[np.ndarray, "count dimensions"], random: np.random.Generator, frequency: float, count: int
) -> Float[np.ndarray, " count"]:
    """A smooth pattern in -1..1: the mean of waves in random directions, sharpened.

    Args:
        points: Where to evaluate it.
        random: Draws the directions, wavelengths and phases.
        frequency: Radians per unit of length of the slowest wave; the fastest has three times as many.
        count: Number of waves.
    """
    directions = random.normal(size=(count, points.shape[1]))
    directions *= frequency * random.uniform(1, 3, (count, 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
    total = np.sin(points @ directions.T + random.uniform(0, 2 * np.pi, count)).mean(axis=1)
    return np.tanh(3 * total)


def orbit(
    radius: float, count: int, width: int, height: int, held_out_every: int, random: np.random.Generator
) -> tuple[SplitView, ...]:
    """Cameras once around the table at the heights of `ELEVATIONS` in turn.

    Args:
        radius: Radius of the circle around the objects.
        count: Number of cameras.
        width, height: Image size in pixels.
        held_out_every: One of this many views is held out.
        random: Draws small perturbations of the cameras.
    """
    focal = 0.95 * width
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    views = []
    for index in range(count):
        azimuth = 2 * np.pi * (index + random.uniform(-0.2, 0.2)) / count
        elevation = np.radians(ELEVATIONS[index % len(ELEVATIONS)] + random.uniform(-2, 2))
        outward = np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        target = np.array([*random.uniform(-0.1, 0.1, 2) * radius, 0.15 * radius])
        center = target + random.uniform(2.7, 3.1) * radius * outward
        right = np.cross(-outward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(-outward, right), -outward])
        viewmat = np.eye(4)
        viewmat[:3] = np.concatenate([rotation, -rotation @ center[:, None]], axis=1)
        split = "eval" if index % held_out_every == held_out_every // 2 else "train"
        views.append(SplitView(torch.from_numpy(viewmat).float(), K, width, height, split))
    return tuple(views)


def render(
    gaussians: LabeledGaussians, view: SplitView, num_objects: int
) -> tuple[UInt8[Tensor, "height width 3"], Int32[Tensor, "height width"], Int32[Tensor, "height width"]]:
    """The image of a view, the object that each pixel shows, and the patch where there is no object; -1 for none."""
    sources = torch.where(gaussians.objects >= 0, gaussians.objects, gaussians.patches + num_objects)
    shares = torch.nn.functional.one_hot(sources, num_objects + len(BACKGROUND)).float()
    weights = compositing_weights(gaussians, view)
    composed = weights.composite(torch.cat([gaussians.colors, shares], dim=1))
    most, label = composed[..., 3 : 3 + num_objects].max(dim=-1)
    patch_shares = composed[..., 3 + num_objects :]
    behind = patch_shares.sum(dim=-1)
    seen = most + behind > MIN_OPACITY
    labels = torch.where(seen & (most > behind), label, -1)
    patches = torch.where(seen & (most <= behind), patch_shares.argmax(dim=-1), -1)
    image = (composed[..., :3].clamp(0, 1) * 255).round().to(torch.uint8)
    return image, labels.int(), patches.int()


def _plane(
    middle: list[float] | np.ndarray,
    first: list[float] | np.ndarray,
    second: list[float] | np.ndarray,
    cells: tuple[int, int],
    patch: int,
    random: np.random.Generator,
) -> LabeledGaussians:
    """A rectangle of flat Gaussians from `middle - first - second` to `middle + first + second`."""
    steps = [(np.arange(count) + 0.5) / count * 2 - 1 for count in cells]
    u, v = (axis.ravel() for axis in np.meshgrid(*steps, indexing="ij"))
    axes = np.array([first, second], dtype=np.float64)
    lengths = np.linalg.norm(axes, axis=1)
    frame = np.stack([*(axes / lengths[:, None]), np.cross(axes[0], axes[1]) / lengths.prod()], axis=1)
    spacing = 2 * lengths / np.array(cells)
    x, y, z, w = Rotation.from_matrix(frame).as_quat()
    count = len(u)
    palette = random.uniform(0.15, 0.9, (3, 3))
    surface = np.stack([u, v], axis=1) * lengths / lengths.min()
    broad = (waves(surface, random, 5.0, 3) + 1) / 2
    fine = (waves(surface, random, 24.0, 4) + 1) / 2
    colors = palette[0] + broad[:, None] * (palette[1] - palette[0])
    colors += 0.4 * fine[:, None] * (palette[2] - colors)
    return LabeledGaussians(
        means=_tensor(np.asarray(middle, dtype=np.float64) + np.stack([u, v], axis=1) @ axes),
        quats=_tensor(np.tile([w, x, y, z], (count, 1))),
        scales=_tensor(np.tile([0.7 * spacing[0], 0.7 * spacing[1], 0.03 * spacing.min()], (count, 1))),
        opacities=torch.full((count,), 0.95),
        colors=_tensor(colors),
        objects=torch.full((count,), -1, dtype=torch.int64),
        patches=torch.full((count,), patch, dtype=torch.int64),
    )


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
