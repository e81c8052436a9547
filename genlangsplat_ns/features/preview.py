"""Contact sheets: a view next to its regions at each level."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int32, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genlangsplat_ns.features.view_file import ViewFeatures
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.files import atomic_path

Pixels: TypeAlias = UInt8[NDArray[np.uint8], "height width 3"]
Regions: TypeAlias = Int32[NDArray[np.int32], "height width"]

PANEL_WIDTH = 640
"""Maximum width of one panel; larger views are downscaled."""

CAPTION_HEIGHT = 24

OVERLAY = 0.55
"""Opacity of the region colors."""

GOLDEN_RATIO = 0.618034
"""Hue step between consecutive regions, which gives neighboring numbers distinct colors."""


def write_contact_sheet(path: Path, name: str, image: UInt8[Tensor, "height width 3"], features: ViewFeatures) -> None:
    """Writes an image of an RGB view next to its regions at each level, with their count and mean area."""
    pixels = image.cpu().numpy()
    panels = [(f"{name}  {pixels.shape[1]}x{pixels.shape[0]}", pixels)]
    for level, regions in zip(LEVELS, features.regions.numpy(), strict=True):
        panels.append((describe_level(level, regions), paint_regions(pixels, regions)))
    with atomic_path(path) as temporary:
        side_by_side(panels).save(temporary)


def describe_level(level: str, regions: Regions) -> str:
    """Returns a caption with the number of regions, their mean area and the covered share of the view."""
    areas = np.unique(regions[regions >= 0], return_counts=True)[1]
    if len(areas) == 0:
        return f"{level}: no regions"
    noun = "region" if len(areas) == 1 else "regions"
    return f"{level}: {len(areas)} {noun}, mean area {areas.mean():,.0f} px, {areas.sum() / regions.size:.0%} covered"


def paint_regions(pixels: Pixels, regions: Regions) -> Pixels:
    """Overlays regions on a view in distinct colors with white outlines; the rest becomes dark gray."""
    hues = np.arange(int(regions.max(initial=-1)) + 1) * GOLDEN_RATIO % 1.0
    # Index -1 selects the black at the end.
    colors = np.array([*(colorsys.hsv_to_rgb(hue, 0.85, 1.0) for hue in hues), (0.0, 0.0, 0.0)])
    gray = pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    painted = np.where(
        (regions >= 0)[..., None], (1 - OVERLAY) * pixels + OVERLAY * 255 * colors[regions], gray * (1 - OVERLAY)
    )
    painted[_outline(regions)] = 255
    return painted.round().astype(np.uint8)


def _outline(regions: Regions) -> Bool[NDArray[np.bool_], "height width"]:
    outline = np.zeros(regions.shape, dtype=bool)
    outline[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    outline[1:] |= regions[1:] != regions[:-1]
    return outline


def side_by_side(panels: Sequence[tuple[str, Pixels]]) -> Image.Image:
    """Draws pictures of one size beside each other, each below its caption, at most `PANEL_WIDTH` pixels wide."""
    height, width = panels[0][1].shape[:2]
    scale = min(1.0, PANEL_WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet = Image.new("RGB", (size[0] * len(panels), size[1] + CAPTION_HEIGHT), "black")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, pixels) in enumerate(panels):
        sheet.paste(Image.fromarray(pixels).resize(size, Image.Resampling.BOX), (place * size[0], CAPTION_HEIGHT))
        draw.text((place * size[0] + 6, 6), caption, fill="white", font=_font(caption, size[0] - 12))
    return sheet


def _font(text: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns the largest font of at most 12 points in which the text fits the width."""
    sizes = [float(points) for points in range(12, 5, -1)]
    fonts = [ImageFont.load_default(points) for points in sizes]
    return next((font for font in fonts if font.getlength(text) <= width), fonts[-1])
