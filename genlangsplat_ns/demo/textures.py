"""Procedural textures of the gallery with baked diffuse lighting, which is the same from every view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, zoom

Texture = Float[np.ndarray, "rows columns 3"]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Rectangle:
    """An axis-aligned rectangle on a surface, in meters from its top left corner."""

    left: float
    top: float
    right: float
    bottom: float


def smooth_noise(shape: tuple[int, int], period: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Noise with zero mean, unit standard deviation, and features of about `period` (rows, columns) pixels."""
    coarse = tuple(int(np.ceil(size / step)) + 3 for size, step in zip(shape, period, strict=True))
    grid = rng.standard_normal(coarse)
    scales = [size / (count - 2) for size, count in zip(shape, coarse, strict=True)]
    fine = np.asarray(zoom(grid, scales, order=3))[: shape[0], : shape[1]]
    return (fine - fine.mean()) / fine.std()


def plaster(
    width: float, height: float, color: Color, density: float, rng: np.random.Generator, contrast: float = 1.0
) -> Texture:
    """A painted wall: large blotches, trowel strokes and fine grain, all with low contrast."""
    shape = (max(round(height * density), 2), max(round(width * density), 2))
    tone = 0.016 * smooth_noise(shape, (0.5 * density, 0.7 * density), rng)
    tone += 0.014 * smooth_noise(shape, (0.05 * density, 0.11 * density), rng)
    tone += 0.010 * smooth_noise(shape, (3.0, 3.0), rng)
    return (np.asarray(color) * (1 + contrast * tone[..., None])).astype(np.float32)


def wood_floor(width: float, depth: float, density: float, rng: np.random.Generator) -> Texture:
    """Oak boards, 16 cm wide and up to 2.1 m long, that run away from the viewer, with grain and thin joints."""
    rows, columns = round(depth * density), round(width * density)
    board = 0.16 * density
    grain = smooth_noise((rows, columns), (0.35 * density, 0.014 * density), rng)
    grain += 0.6 * smooth_noise((rows, columns), (0.9 * density, 0.05 * density), rng)
    texture = np.empty((rows, columns, 3), np.float32)
    y = np.arange(rows) / density
    for index in range(int(np.ceil(columns / board))):
        span = slice(round(index * board), min(round((index + 1) * board), columns))
        length = rng.uniform(1.4, 2.1)
        piece = np.floor((y + rng.uniform(0, length)) / length).astype(int)
        tones = 1 + 0.075 * rng.standard_normal(piece.max() + 1)
        warmth = 0.03 * rng.standard_normal(piece.max() + 1)
        color = np.array([0.60, 0.43, 0.28]) * tones[piece, None]
        color *= 1 + warmth[piece, None] * np.array([1.0, 0.0, -1.0])
        joints = np.concatenate([[False], piece[1:] != piece[:-1]])
        block = color[:, None, :] * (1 + 0.06 * grain[:, span, None])
        block[:, :1] *= 0.72
        block[joints] *= 0.72
        texture[:, span] = block
    return texture


def framed(
    photograph: Float[np.ndarray, "photo_rows photo_columns 3"],
    width: float,
    height: float,
    frame: Color,
    density: float,
    border: float,
) -> Texture:
    """The front of a framed picture: the photograph inside a frame of width `border`."""
    from skimage.transform import resize

    rows, columns = round(height * density), round(width * density)
    edge = round(border * density)
    texture = np.broadcast_to(np.asarray(frame, np.float32), (rows, columns, 3)).copy()
    # The frame is bright on its upper and left sides and darkens towards the picture.
    y, x = np.arange(rows)[:, None], np.arange(columns)[None]
    depth = np.minimum(np.minimum(y, y[::-1]), np.minimum(x, x[:, ::-1]))
    texture *= (1.12 - 0.3 * np.clip(depth / max(edge, 1), 0, 1))[..., None]
    texture[-edge:] *= 0.82
    texture[:, -edge:] *= 0.9
    inner = (rows - 2 * edge, columns - 2 * edge)
    picture = np.asarray(resize(photograph, inner, order=1, anti_aliasing=True), np.float32)
    texture[edge : edge + inner[0], edge : edge + inner[1]] = 0.02 + 0.94 * picture
    return texture.clip(0, 1)


def plain(width: float, height: float, color: Color, density: float, rng: np.random.Generator) -> Texture:
    """A painted board that is a little darker towards the floor."""
    texture = plaster(width, height, color, density, rng, contrast=0.45)
    return texture * np.linspace(1.02, 0.9, texture.shape[0], dtype=np.float32)[:, None, None]


def _mask(shape: tuple[int, ...], rectangle: Rectangle, density: float) -> np.ndarray:
    mask = np.zeros(shape, np.float32)
    top, bottom = (np.clip(round(v * density), 0, shape[0]) for v in (rectangle.top, rectangle.bottom))
    left, right = (np.clip(round(v * density), 0, shape[1]) for v in (rectangle.left, rectangle.right))
    mask[top:bottom, left:right] = 1
    return mask


def cast_shadow(texture: Texture, rectangle: Rectangle, density: float, softness: float, strength: float) -> Texture:
    """Darkens a texture inside a rectangle with edges blurred by `softness` meters."""
    shadow = gaussian_filter(_mask(texture.shape[:2], rectangle, density), softness * density)
    return texture * (1 - strength * shadow)[..., None].astype(np.float32)


def shine_spotlight(texture: Texture, rectangle: Rectangle, density: float, strength: float) -> Texture:
    """Brightens a texture around a rectangle with warm light, like a lamp above it."""
    rows, columns = texture.shape[:2]
    y, x = (np.arange(rows)[:, None] + 0.5) / density, (np.arange(columns)[None] + 0.5) / density
    center_x = (rectangle.left + rectangle.right) / 2
    center_y = 0.6 * rectangle.top + 0.4 * rectangle.bottom
    reach_x = 0.45 * (rectangle.right - rectangle.left) + 0.3
    reach_y = 0.45 * (rectangle.bottom - rectangle.top) + 0.35
    glow = np.exp(-(((x - center_x) / reach_x) ** 2 + ((y - center_y) / reach_y) ** 2) / 2)
    return texture * (1 + strength * glow[..., None] * np.array([1.0, 0.95, 0.85])).astype(np.float32)


def darken_edges(texture: Texture, density: float, reach: float, strength: float) -> Texture:
    """Darkens a texture exponentially towards its border, like ambient occlusion."""
    rows, columns = texture.shape[:2]
    y, x = (np.arange(rows) + 0.5) / density, (np.arange(columns) + 0.5) / density
    vertical = np.exp(-np.minimum(y, y[::-1]) / reach)[:, None]
    horizontal = np.exp(-np.minimum(x, x[::-1]) / reach)[None]
    return texture * ((1 - strength * vertical) * (1 - strength * horizontal))[..., None].astype(np.float32)
