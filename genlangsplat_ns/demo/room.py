"""The gallery room: walls, plinths and pictures, in meters. z points up, and the visitor looks along +y."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genlangsplat_ns.demo import photographs
from genlangsplat_ns.demo.photographs import Photograph
from genlangsplat_ns.demo.raycast import Surface
from genlangsplat_ns.demo.textures import (
    Color,
    Rectangle,
    Texture,
    cast_shadow,
    darken_edges,
    framed,
    plain,
    plaster,
    shine_spotlight,
    wood_floor,
)

UP = np.array([0.0, 0.0, 1.0])
WALL_HEIGHT = 3.0
WALL_CORNERS = np.array([[-4.4, -2.3, 0.0], [-2.1, 2.3, 0.0], [2.1, 2.3, 0.0], [4.4, -2.3, 0.0]])
FLOOR_LEFT, FLOOR_BACK, FLOOR_WIDTH, FLOOR_DEPTH = -4.45, 2.35, 8.9, 6.4
WALL_DENSITY, FLOOR_DENSITY, PICTURE_DENSITY = 90.0, 110.0, 190.0
WHITE, TEAL = (0.80, 0.785, 0.75), (0.335, 0.43, 0.445)
BLACK, OAK, WALNUT, IVORY = (0.09, 0.09, 0.095), (0.62, 0.45, 0.27), (0.30, 0.19, 0.12), (0.83, 0.80, 0.73)


@dataclass(frozen=True)
class WallPicture:
    """A framed picture on a wall."""

    category: str
    photograph: Photograph
    wall: int
    """Index of the wall: left, back, right."""
    along: float
    """Distance of the center from the wall's left end."""
    center: float
    """Height of the center above the floor."""
    height: float
    """Outer height. The width follows from the photograph's aspect ratio."""
    frame: Color


@dataclass(frozen=True)
class StandingBoard:
    """A picture on a free-standing board with one panel, or with two panels and a fold between them."""

    category: str
    photograph: Photograph
    foot: tuple[float, float, float]
    """Position of the center of the lower edge."""
    height: float
    """Height. The unfolded width follows from the photograph's aspect ratio."""
    yaw: float = 0.0
    """Rotation in degrees from facing the visitor, positive to the visitor's right."""
    lean: float = 0.0
    """Backward tilt in degrees."""
    fold: float = 0.0
    """Rotation of each half in degrees. With positive values the fold points to the visitor."""
    border: Color = IVORY
    plinth: tuple[float, float] | None = None
    """Width and depth of the plinth, which reaches up to `foot`; None for no plinth."""


Window = tuple[float, float, float, float]

WALL_PICTURES = (
    WallPicture("temple", photographs.TEMPLE, wall=1, along=1.2, center=1.75, height=1.25, frame=BLACK),
    WallPicture("space shuttle", photographs.SHUTTLE, wall=1, along=3.2, center=1.7, height=1.45, frame=OAK),
    WallPicture("flower", photographs.FLOWER, wall=0, along=3.85, center=1.6, height=1.35, frame=WALNUT),
    WallPicture("photographer", photographs.PHOTOGRAPHER, wall=2, along=1.2, center=1.65, height=1.5, frame=BLACK),
)

BOARDS = (
    StandingBoard("cat", photographs.CAT, (-1.2, 0.75, 0.5), height=0.78, yaw=12.0, fold=-22.0, plinth=(1.25, 0.6)),
    StandingBoard(
        "coffee", photographs.COFFEE, (1.28, 0.7, 0.55), height=0.72, yaw=-14.0, lean=10.0, plinth=(1.0, 0.5)
    ),
    StandingBoard(
        "motorcycle", photographs.MOTORCYCLE, (0.05, 0.1, 0.2), height=0.78, yaw=-4.0, fold=17.0, plinth=(1.45, 0.5)
    ),
)

CATEGORIES: tuple[str, ...] = tuple(item.category for item in (*WALL_PICTURES, *BOARDS))
"""The objects of the gallery. An object's label is its index here."""


def build_room(seed: int = 0) -> list[Surface]:
    """Builds every rectangle of the gallery, including its lighting, with procedural textures from the seed."""
    rng = np.random.default_rng(seed)
    surfaces: list[Surface] = []
    shadows_on_floor: list[Rectangle] = []
    for label, board in enumerate(BOARDS, start=len(WALL_PICTURES)):
        boxes, footprint = _build_board(board, label, rng)
        surfaces += boxes
        shadows_on_floor.append(footprint)
    for wall in range(3):
        surfaces += _build_wall(wall, rng)
    floor = wood_floor(FLOOR_WIDTH, FLOOR_DEPTH, FLOOR_DENSITY, rng)
    for footprint in shadows_on_floor:
        wide = Rectangle(footprint.left - 0.1, footprint.top - 0.12, footprint.right + 0.1, footprint.bottom + 0.06)
        floor = cast_shadow(floor, wide, FLOOR_DENSITY, softness=0.16, strength=0.45)
        floor = cast_shadow(floor, footprint, FLOOR_DENSITY, softness=0.035, strength=0.45)
    floor = darken_edges(floor, FLOOR_DENSITY, reach=0.3, strength=0.4)
    corner = np.array([FLOOR_LEFT, FLOOR_BACK, 0.0])
    surfaces.append(Surface(corner, np.array([FLOOR_WIDTH, 0, 0]), np.array([0, -FLOOR_DEPTH, 0]), floor))
    ceiling = plaster(FLOOR_WIDTH, FLOOR_DEPTH, (0.74, 0.73, 0.71), 40.0, rng)
    corner = np.array([FLOOR_LEFT, FLOOR_BACK - FLOOR_DEPTH, WALL_HEIGHT])
    surfaces.append(Surface(corner, np.array([FLOOR_WIDTH, 0, 0]), np.array([0, FLOOR_DEPTH, 0]), ceiling))
    return surfaces


def _outer_size(photograph: Texture, height: float, border: float) -> tuple[float, float]:
    """Outer width and height of a picture with a border and the given outer height."""
    rows, columns = photograph.shape[:2]
    return (height - 2 * border) * columns / rows + 2 * border, height


def _build_wall(wall: int, rng: np.random.Generator) -> list[Surface]:
    """Builds a wall with its baseboard, spotlights, shadows and pictures."""
    start, end = WALL_CORNERS[wall], WALL_CORNERS[wall + 1]
    width = float(np.linalg.norm(end - start))
    right = (end - start) / width
    normal = np.cross(-UP, right)
    texture = plaster(width, WALL_HEIGHT, TEAL if wall == 1 else WHITE, WALL_DENSITY, rng)
    pictures: list[Surface] = []
    for label, picture in enumerate(WALL_PICTURES):
        if picture.wall != wall:
            continue
        border = 0.045
        photograph = picture.photograph.load()
        outer = _outer_size(photograph, picture.height, border)
        top = WALL_HEIGHT - picture.center - outer[1] / 2
        place = Rectangle(picture.along - outer[0] / 2, top, picture.along + outer[0] / 2, top + outer[1])
        texture = shine_spotlight(texture, place, WALL_DENSITY, strength=0.26)
        shadow = Rectangle(place.left + 0.0, place.top + 0.05, place.right + 0.02, place.bottom + 0.07)
        texture = cast_shadow(texture, shadow, WALL_DENSITY, softness=0.045, strength=0.42)
        front = framed(photograph, *outer, picture.frame, PICTURE_DENSITY, border)
        center = start + picture.along * right + picture.center * UP + 0.02 * normal
        pictures += _build_box(
            center, right, UP, (*outer, 0.04), front, picture.frame, rng, label, _window(outer, border, border)
        )
    texture = darken_edges(texture, WALL_DENSITY, reach=0.28, strength=0.22)
    rows = round(0.11 * WALL_DENSITY)
    baseboard = plaster(width, 0.11, (0.74, 0.73, 0.70), WALL_DENSITY, rng)[:rows]
    texture[-len(baseboard) :] = baseboard * 0.92
    texture[-len(baseboard) - 1] *= 0.78
    corner = start + WALL_HEIGHT * UP
    return [*pictures, Surface(corner, width * right, -WALL_HEIGHT * UP, texture.clip(0, 1))]


def _window(outer: tuple[float, float], left: float, right: float, edge: float = 0.045) -> Window:
    """The part of a picture inside its borders, as fractions of the outer size."""
    width, height = outer
    return left / width, edge / height, 1 - right / width, 1 - edge / height


def _build_board(board: StandingBoard, label: int, rng: np.random.Generator) -> tuple[list[Surface], Rectangle]:
    """Builds the panels of a board and its plinth, and returns the area of the floor that they cover."""
    edge = 0.03
    photograph = board.photograph.load()
    outer = _outer_size(photograph, board.height, edge)
    front = framed(photograph, *outer, board.border, PICTURE_DENSITY, edge)
    foot = np.array(board.foot)
    yaw, lean, fold = np.radians([board.yaw, board.lean, board.fold])
    boxes: list[Surface] = []
    # Side, rotation and front of the panels. The front faces meet at the fold, so folded panels are behind it.
    panels, size, behind = [(0, yaw, front)], (*outer, 0.03), 0.0
    if board.fold != 0:
        middle = front.shape[1] // 2
        panels = [(-1, yaw + fold, front[:, :middle]), (1, yaw - fold, front[:, middle:])]
        size, behind = (outer[0] / 2, outer[1], 0.02), 0.01
    for side, angle, part in panels:
        right = _right_direction(angle)
        normal = np.cross(right, UP)
        up = np.cos(lean) * UP - np.sin(lean) * normal
        window = _window(outer=size[:2], left=edge if side <= 0 else 0.0, right=edge if side >= 0 else 0.0, edge=edge)
        center = foot + side * right * size[0] / 2 + up * size[1] / 2 - behind * normal
        # The half that faces away from the lamps is a little darker, so that the fold is visible.
        light = 0.9 if side * fold < 0 else 1.0
        boxes += _build_box(center, right, up, size, part * light, WALNUT, rng, label, window)
    width, depth = board.plinth or (outer[0], 0.3)
    if board.plinth:
        front = plain(width, foot[2], (0.86, 0.85, 0.83), WALL_DENSITY, rng)
        center = np.array([foot[0], foot[1], foot[2] / 2])
        plinth = _build_box(center, _right_direction(yaw), UP, (width, foot[2], depth), front, (0.78, 0.77, 0.75), rng)
        top = plinth[3]
        shade = Rectangle(0.06, depth * 0.25, width - 0.06, depth * 0.62)
        texture = cast_shadow(top.texture, shade, WALL_DENSITY, softness=0.05, strength=0.4)
        plinth[3] = Surface(top.corner, top.right, top.down, texture)
        boxes += plinth
    x, y = foot[0] - FLOOR_LEFT, FLOOR_BACK - foot[1]
    return boxes, Rectangle(x - width / 2, y - depth / 2, x + width / 2, y + depth / 2)


def _right_direction(angle: float) -> np.ndarray:
    """The rightward direction of a board that is rotated by `angle` from facing the visitor."""
    return np.array([np.cos(angle), np.sin(angle), 0.0])


def _build_box(
    center: np.ndarray,
    right: np.ndarray,
    up: np.ndarray,
    size: tuple[float, float, float],
    front: Texture,
    color: Color,
    rng: np.random.Generator,
    label: int = -1,
    window: Window = (0.0, 0.0, 1.0, 1.0),
) -> list[Surface]:
    """Builds the front, left, right, top and back faces of a box. `size` is width, height and depth."""
    width, height, depth = size
    normal = np.cross(right, up)
    x, y, z = right * width / 2, up * height / 2, normal * depth / 2

    def face(corner: np.ndarray, along: np.ndarray, down: np.ndarray, light: float) -> Surface:
        lengths = float(np.linalg.norm(along)), float(np.linalg.norm(down))
        shaded = (light * color[0], light * color[1], light * color[2])
        return Surface(center + corner, along, down, plain(*lengths, shaded, WALL_DENSITY, rng))

    return [
        Surface(center - x + y + z, 2 * x, -2 * y, front, label, window),
        face(-x + y - z, 2 * z, -2 * y, 0.88),
        face(x + y + z, -2 * z, -2 * y, 0.80),
        face(-x + y - z, 2 * x, 2 * z, 1.08),
        face(x + y - z, -2 * x, -2 * y, 0.7),
    ]
