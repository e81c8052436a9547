"""Contact sheets: captions, region colors, and views of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genlangsplat_ns.features import preview
from genlangsplat_ns.features.preview import (
    CAPTION_HEIGHT,
    PANEL_WIDTH,
    describe_level,
    paint_regions,
    write_contact_sheet,
)
from genlangsplat_ns.features.store import ViewFeatures


def stripes(count: int, height: int = 9, width_each: int = 5) -> np.ndarray:
    """Vertical stripes as regions."""
    return np.repeat(np.arange(count, dtype=np.int32), width_each)[None].repeat(height, axis=0)


def inner(regions: np.ndarray, number: int) -> tuple[int, int]:
    """A pixel inside a stripe, away from its edges."""
    return 4, int(np.nonzero(regions[4] == number)[0][2])


def test_a_level_is_described_by_number_mean_area_and_share():
    regions = np.full((40, 100), -1, dtype=np.int32)
    regions[:10] = 7
    regions[10:14, :50] = 9
    assert describe_level("part", regions) == "part: 2 regions, mean area 600 px, 30% covered"
    large = np.repeat(np.array([[0], [1]], dtype=np.int32), 12_345, axis=1)
    assert describe_level("whole", large) == "whole: 2 regions, mean area 12,345 px, 100% covered"


def test_a_level_without_regions_says_so():
    assert describe_level("subpart", np.full((4, 5), -1, dtype=np.int32)) == "subpart: no regions"


def test_neighboring_regions_have_colors_that_can_be_told_apart(rng):
    regions = stripes(12)
    pixels = np.full((*regions.shape, 3), 128, dtype=np.uint8)
    painted = paint_regions(pixels, regions)
    assert painted.dtype == np.uint8
    colors = np.array([painted[inner(regions, number)] for number in range(12)]).astype(int)
    assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 60
    assert len(np.unique(colors, axis=0)) == 12


def test_a_region_has_one_color_and_lets_the_view_show_through(rng):
    regions = stripes(2)
    pixels = np.full((*regions.shape, 3), 100, dtype=np.uint8)
    pixels[5] = 180
    painted = paint_regions(pixels, regions).astype(int)
    row, column = inner(regions, 1)
    assert (painted[row, column] == painted[row - 1, column]).all()
    np.testing.assert_allclose(painted[5, column] - painted[row, column], 0.45 * 80, atol=1)
    # Colors have full brightness.
    assert abs(painted[row, column].max() - (0.45 * 100 + 0.55 * 255)) <= 0.5


def test_regions_are_outlined_in_white():
    regions = stripes(3)
    painted = paint_regions(np.zeros((*regions.shape, 3), dtype=np.uint8), regions)
    white = (painted == 255).all(axis=-1)
    edges = np.zeros_like(white)
    edges[:, [5, 10]] = True
    np.testing.assert_array_equal(white, edges)
    below = paint_regions(np.zeros((15, 9, 3), dtype=np.uint8), regions.T.copy())
    np.testing.assert_array_equal((below == 255).all(axis=-1), edges.T)


def test_pixels_without_a_region_turn_dark_gray(rng):
    pixels = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    painted = paint_regions(pixels, np.full((8, 10), -1, dtype=np.int32)).astype(int)
    assert (painted == painted[..., :1]).all()
    np.testing.assert_allclose(painted[..., 0], 0.45 * pixels.mean(axis=-1), atol=0.51)


def test_the_last_region_is_not_taken_for_none():
    regions = stripes(2)
    regions[:, :5] = -1
    painted = paint_regions(np.full((*regions.shape, 3), 128, dtype=np.uint8), regions).astype(int)
    none, last = painted[4, 2], painted[4, 7]
    assert np.ptp(none) == 0
    assert np.ptp(last) > 60


def sheet_of(path: Path, image: torch.Tensor, regions: torch.Tensor) -> np.ndarray:
    features = ViewFeatures(regions, torch.zeros(int(regions.max()) + 1, 4))
    write_contact_sheet(path, "frame_1.jpg", image, features)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_sheet_shows_the_view_and_each_level_beside_it(tmp_path, rng):
    image = torch.from_numpy(rng.integers(0, 256, (60, 300, 3), dtype=np.uint8))
    regions = torch.full((3, 60, 300), -1, dtype=torch.int32)
    regions[0, :30] = 0
    regions[1, :, :100] = 1
    regions[2] = 2
    sheet = sheet_of(tmp_path / "sheet.png", image, regions)
    assert sheet.shape == (60 + CAPTION_HEIGHT, 4 * 300, 3)
    panels = np.split(sheet[CAPTION_HEIGHT:], 4, axis=1)
    np.testing.assert_array_equal(panels[0], image.numpy())
    for panel, level in zip(panels[1:], regions.numpy(), strict=True):
        np.testing.assert_array_equal(panel, paint_regions(image.numpy(), level))
    for caption in np.split(sheet[:CAPTION_HEIGHT], 4, axis=1):
        assert caption.max() > 200


def test_the_captions_name_the_view_its_size_and_the_levels(tmp_path, monkeypatch):
    captions = []

    def collect(panels: list[tuple[str, np.ndarray]]) -> Image.Image:
        captions.extend(caption for caption, _ in panels)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(preview, "side_by_side", collect)
    regions = torch.full((3, 6, 8), -1, dtype=torch.int32)
    regions[1, :2] = 0
    regions[1, 2:4] = 1
    sheet_of(tmp_path / "sheet.png", torch.zeros(6, 8, 3, dtype=torch.uint8), regions)
    assert captions == [
        "frame_1.jpg  8x6",
        "subpart: no regions",
        "part: 2 regions, mean area 16 px, 67% covered",
        "whole: no regions",
    ]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [(2, 3, (2, 3)), (3, 2, (3, 2)), (1, 1, (1, 1)), (700, 1280, (350, 640)), (3, 4000, (1, 640)), (900, 5, (900, 5))],
)
def test_views_of_any_size_make_a_sheet_with_or_without_regions(tmp_path, rng, height, width, shown, suffix):
    image = torch.from_numpy(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    nothing = torch.full((3, height, width), -1, dtype=torch.int32)
    everything = torch.arange(3, dtype=torch.int32)[:, None, None].expand(3, height, width).contiguous()
    for regions in (nothing, everything):
        sheet = sheet_of(tmp_path / f"sheet.{suffix}", image, regions)
        assert sheet.shape == (shown[0] + CAPTION_HEIGHT, 4 * shown[1], 3)
        assert shown[1] <= PANEL_WIDTH
    assert [path.name for path in tmp_path.iterdir()] == [f"sheet.{suffix}"]


def test_a_large_view_is_shrunk_by_averaging(tmp_path):
    image = torch.zeros(100, 2 * PANEL_WIDTH, 3, dtype=torch.uint8)
    image[:, ::2] = 200
    regions = torch.full((3, 100, 2 * PANEL_WIDTH), -1, dtype=torch.int32)
    sheet = sheet_of(tmp_path / "sheet.png", image, regions)
    assert (sheet[CAPTION_HEIGHT:, :PANEL_WIDTH] == 100).all()


def test_a_caption_gets_smaller_until_it_fits_its_panel():
    words = "part: 1,234 regions, mean area 12,345 px, 100% covered"
    sizes = [preview._font(words, width).getlength(words) for width in (1000, 280, 220)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[1] <= 280
    assert sizes[2] <= 220
