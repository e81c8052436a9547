"""A small exact ray caster for textured rectangles: colors, object coverage and depth of a pinhole view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

SUPERSAMPLING = 2
"""Rays per pixel along each axis."""

FIRST_RAY = 0.5 / SUPERSAMPLING
"""Offset of a pixel's first ray from the pixel's upper left corner on both axes, in pixels."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A textured rectangle that is visible from its front only."""

    corner: Float[np.ndarray, " 3"]
    """The top left corner in world coordinates."""
    right: Float[np.ndarray, " 3"]
    """The vector along the upper edge."""
    down: Float[np.ndarray, " 3"]
    """The vector along the left edge, perpendicular to `right`."""
    texture: Float[np.ndarray, "rows columns 3"]
    """Colors including shading, row 0 at the upper edge."""
    label: int = -1
    """Index of the object on it, -1 for none."""
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """The part with the object: left, top, right and bottom as fractions of the surface."""

    @property
    def normal(self) -> Float[np.ndarray, " 3"]:
        """The direction that the front faces (not a unit vector)."""
        return np.cross(self.down, self.right)


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics of a camera without distortion. The center of the first pixel is at (0.5, 0.5)."""

    width: int
    height: int
    focal: float

    @property
    def matrix(self) -> Float[np.ndarray, "3 3"]:
        """The calibration matrix."""
        return np.array([[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1.0]])


@dataclass(frozen=True, eq=False)
class Rendering:
    """A rendered view."""

    rgb: Float[np.ndarray, "height width 3"]
    """Colors in 0 to 1."""
    coverage: Float[np.ndarray, "objects height width"]
    """The fraction of each pixel that each object covers."""
    extent: Float[np.ndarray, " objects"]
    """The number of pixels of each object without occlusion and without clipping at the image border."""
    depth: Float[np.ndarray, "height width"]
    """Depth along the optical axis at each pixel's first ray, infinite where there is no surface."""


def look_at(position: Float[np.ndarray, " 3"], target: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world matrix of a level camera in the OpenGL convention (x right, y up, z backward); world z is up."""
    backward = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(backward, right), backward, position], axis=1)
    return pose


def sample(
    texture: Float[np.ndarray, "rows columns 3"], a: Float[np.ndarray, " count"], b: Float[np.ndarray, " count"]
) -> Float[np.ndarray, "count 3"]:
    """Bilinear interpolation of colors at fractions a (along the columns) and b (along the rows)."""
    grid = 2 * torch.from_numpy(np.stack([a, b], axis=-1)) - 1
    image = torch.from_numpy(texture).permute(2, 0, 1)
    sampled = F.grid_sample(image[None], grid[None, None], padding_mode="border", align_corners=False)
    return sampled[0, :, 0].T.numpy()


def _apply(homography: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Evaluates the three rows of a homography on a block of pixels."""
    return [row[0] * x[None] + (row[1] * y + row[2])[:, None] for row in homography]


def _projected_area(ring: np.ndarray, calibration: np.ndarray) -> float:
    """Area in pixels of a polygon given in camera space; infinite if part of it is behind the camera."""
    if (ring[:, 2] <= 1e-3).any():
        return float("inf")
    points = ring @ calibration.T
    x, y = (points[:, :2] / points[:, 2:]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _screen_box(corners: np.ndarray, calibration: np.ndarray, width: int, height: int) -> tuple[slice, slice] | None:
    """Rows and columns that a rectangle with these camera-space corners can cover; None if there are none."""
    if (corners[:, 2] <= 1e-3).all():
        return None
    if (corners[:, 2] <= 1e-3).any():
        return slice(0, height), slice(0, width)
    points = corners @ calibration.T
    points = points[:, :2] / points[:, 2:]
    low = np.maximum(np.floor(points.min(axis=0) - 1), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + 1), [width, height]).astype(int)
    if (low >= high).any():
        return None
    return slice(low[1], high[1]), slice(low[0], high[0])


def render(surfaces: Sequence[Surface], pose: Float[np.ndarray, "4 4"], camera: Pinhole, num_objects: int) -> Rendering:
    """Renders a view: the nearest surface along each ray, its texture, and the coverage of each pixel by each object.

    A ray (x, y, 1) hits the plane of a rectangle at corner + a*right + b*down and depth z, where (a, b, 1)/z is linear
    in (x, y). Finding the nearest surface therefore needs no division. `pose` is camera-to-world (OpenGL).
    """
    scale = SUPERSAMPLING
    width, height = camera.width * scale, camera.height * scale
    calibration = np.diag([scale, scale, 1.0]) @ camera.matrix
    rotation = pose[:3, :3] * np.array([1, -1, -1])  # To the OpenCV convention: y down, z forward.
    position = pose[:3, 3]
    x, y = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5

    nearest = np.zeros((height, width), np.float32)  # Inverse depth of the nearest surface so far.
    visible = np.full((height, width), -1, np.int16)  # Index of the nearest surface so far.
    homographies: list[np.ndarray | None] = []
    extent = np.zeros(num_objects)
    for index, surface in enumerate(surfaces):
        homographies.append(None)
        if surface.normal @ (position - surface.corner) <= 0:
            continue
        corner, right, down = (surface.corner - position) @ rotation, surface.right @ rotation, surface.down @ rotation
        corners = np.stack([corner, corner + right, corner + right + down, corner + down])
        if surface.label >= 0:
            left, top, right_edge, bottom = surface.window
            ring = [(left, top), (right_edge, top), (right_edge, bottom), (left, bottom)]
            outline = np.stack([corner + a * right + b * down for a, b in ring])
            extent[surface.label] += _projected_area(outline, camera.matrix)
        box = _screen_box(corners, calibration, width, height)
        if box is None:
            continue
        homography = np.linalg.inv(calibration @ np.stack([right, down, corner], axis=1)).astype(np.float32)
        homographies[-1] = homography
        a, b, inverse_depth = _apply(homography, x[box[1]], y[box[0]])
        hit = (a >= 0) & (a <= inverse_depth) & (b >= 0) & (b <= inverse_depth) & (inverse_depth > nearest[box])
        nearest[box][hit] = inverse_depth[hit]
        visible[box][hit] = index

    rgb = np.zeros((height * width, 3), np.float32)
    labels = np.full(height * width, -1, np.int16)
    # A stable sort of small integers groups the rays by surface.
    order = visible.ravel().argsort(kind="stable")
    ends = np.bincount(visible.ravel() + 1, minlength=len(surfaces) + 1).cumsum()
    for index in np.nonzero(np.diff(ends))[0]:
        rays = order[ends[index] : ends[index + 1]]
        surface, homography = surfaces[index], homographies[index]
        assert homography is not None
        a, b, inverse_depth = homography @ np.stack([x[rays % width], y[rays // width], np.ones(len(rays), np.float32)])
        a, b = a / inverse_depth, b / inverse_depth
        rgb[rays] = sample(surface.texture, a, b)
        left, top, right, bottom = surface.window
        labels[rays[(a >= left) & (a <= right) & (b >= top) & (b <= bottom)]] = surface.label

    labels = labels.reshape(height, width)
    coverage = np.stack([_pixel_means(labels == index) for index in range(num_objects)])
    with np.errstate(divide="ignore"):
        depth = 1 / nearest[::scale, ::scale]
    return Rendering(_pixel_means(rgb.reshape(height, width, 3)).clip(0, 1), coverage, extent, depth)


def _pixel_means(rays: np.ndarray) -> np.ndarray:
    """Averages the rays of each pixel."""
    scale = SUPERSAMPLING
    # Adding a few strided slices is several times faster than a mean over tiny axes.
    total = sum(rays[i::scale, j::scale].astype(np.float32) for i in range(scale) for j in range(scale))
    return np.asarray(total, np.float32) / scale**2
