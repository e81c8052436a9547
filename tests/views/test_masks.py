"""Mask files in many formats mean the same: pixels of zeros do not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.masks import check_masks, find_mask, listed_mask, read_mask, same_shape

SIZE = (48, 32)
KEPT = np.ones((32, 48), bool)
KEPT[20:, 10:40] = False
LIGHT = KEPT.astype(np.uint8) * 255
NO_COLOR = np.zeros((32, 48, 3), np.uint8)


def palette(colors: list[int], indices: np.ndarray) -> Image.Image:
    picture = Image.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette(colors)
    return picture


def colored(*color: int) -> Image.Image:
    return Image.fromarray(KEPT[..., None] * np.array(color, np.uint8))


FORMS = {
    "grayscale": Image.fromarray(LIGHT),
    "zeros and ones": Image.fromarray(KEPT.astype(np.uint8)),
    "1 bit": Image.fromarray(KEPT),
    "16 bit": Image.fromarray(KEPT.astype(np.uint16) * 65535),
    "16 bit zeros and ones": Image.fromarray(KEPT.astype(np.uint16)),
    "rgb": colored(255, 255, 255),
    "rgb ones": colored(1, 1, 1),
    "one color channel": colored(0, 0, 200),
    "palette": palette([0, 0, 0, 255, 255, 255], KEPT),
    "palette with black last": palette([255, 255, 255, 0, 0, 0], ~KEPT),
    "palette of classes": palette([0, 0, 0, 128, 0, 0, 0, 128, 0], KEPT * 2),
    "gray and opaque": Image.fromarray(np.dstack([LIGHT, np.full_like(LIGHT, 255)]), "LA"),
    "rgb and opaque": Image.fromarray(np.dstack([LIGHT] * 3 + [np.full_like(LIGHT, 255)])),
    "opacity alone": Image.fromarray(np.dstack([NO_COLOR, LIGHT])),
    "opacity of white": Image.fromarray(np.dstack([NO_COLOR + 255, LIGHT])),
    "opacity of gray": Image.fromarray(np.dstack([np.full_like(LIGHT, 90), LIGHT]), "LA"),
    "colors and opacity": Image.fromarray(np.dstack([NO_COLOR + LIGHT[:, ::-1, None] // 2 + 9, LIGHT])),
}


def save(folder: Path, picture: Image.Image, name: str = "mask.png", **options: Any) -> Path:
    picture.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_a_mask_mean_the_same(tmp_path: Path, form: str) -> None:
    path = save(tmp_path, FORMS[form])
    check_masks([path], [SIZE])
    assert (read_mask(path, SIZE) == KEPT).all()


@pytest.mark.parametrize("highest", [255, 40])
def test_a_lossy_mask_is_cut_at_half_of_its_highest_value(tmp_path: Path, highest: int) -> None:
    path = save(tmp_path, Image.fromarray(LIGHT // 255 * highest), "mask.jpg", quality=60)
    assert ((np.asarray(Image.open(path)) > 0) != KEPT).any(), "the format kept all zeros"
    assert (read_mask(path, SIZE) == KEPT).all()


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("name", ["mask.png", "mask.jpg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_masks_of_one_value(tmp_path: Path, mode: str, name: str, value: int) -> None:
    path = save(tmp_path, Image.new("L", SIZE, value).convert(mode), name)
    assert (read_mask(path, SIZE) == (value > 0)).all()


def test_an_opaque_black_mask_keeps_nothing(tmp_path: Path) -> None:
    assert not read_mask(save(tmp_path, Image.new("RGBA", SIZE, (0, 0, 0, 255))), SIZE).any()


@pytest.mark.parametrize("factor", [0.5, 2, 3])
def test_a_mask_of_another_size_is_scaled_to_the_photograph(tmp_path: Path, factor: float) -> None:
    size = (int(SIZE[0] * factor), int(SIZE[1] * factor))
    path = save(tmp_path, Image.fromarray(LIGHT).resize(size, Image.Resampling.NEAREST))
    check_masks([path], [SIZE])
    assert (read_mask(path, SIZE) == KEPT).all()
    assert read_mask(path, SIZE, (24, 16)).shape == (16, 24)


def test_rounded_sizes_have_the_same_shape() -> None:
    assert same_shape((1297, 840), (1296, 840)) and same_shape((5187, 3361), (1297, 840))
    assert same_shape((779, 519), (97, 65)) and same_shape((97, 65), (779, 519))
    assert not same_shape((840, 1297), (1297, 840)) and not same_shape((1920, 1080), (1920, 1440))


@pytest.mark.parametrize("function", ["check", "read"])
def test_a_mask_of_another_shape_is_refused_with_both_sizes(tmp_path: Path, function: str) -> None:
    path = save(tmp_path, Image.new("L", (48, 36)))
    with pytest.raises(GenLangSplatError, match=r"mask\.png has 48x36 .* 48x32"):
        check_masks([path], [SIZE]) if function == "check" else read_mask(path, SIZE)


def test_a_mask_that_is_far_larger_than_its_photograph_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = Image.new("1", (12_000, 8_000))
    path = save(tmp_path, header)
    with pytest.raises(GenLangSplatError, match=r"claims 12000x8000 pixels, expected at most 16,000,000"):
        read_mask(path, SIZE)
    assert read_mask(path, (1500, 1000)).shape == (1000, 1500)


def test_a_mask_with_exif_rotation_is_turned_if_it_then_fits(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path, Image.fromarray(np.rot90(LIGHT)), exif=exif)
    assert (read_mask(path, SIZE) == KEPT).all()


def test_missing_masks_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"1 of 1 listed masks do not exist: .*absent\.png.*mask_path"):
        check_masks([None, tmp_path / "absent.png"], [SIZE, SIZE])
    check_masks([None], [SIZE])


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_text("nothing")
    with pytest.raises(GenLangSplatError, match=r"mask\.png cannot be read as an image.*grayscale PNG"):
        check_masks([tmp_path / "mask.png"], [SIZE])


@pytest.mark.parametrize("name", ["x.jpg.png", "x.png", "x.jpg", "x.PNG"])
def test_both_names_of_a_mask_are_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    assert find_mask(tmp_path, Path("a/x.jpg")) is None
    (tmp_path / "a" / name).touch()
    assert find_mask(tmp_path, Path("a/x.jpg")) == tmp_path / "a" / name
    assert find_mask(tmp_path, Path("x.jpg")) is None
    assert find_mask(tmp_path, Path("y" * 252)) is None, "no file can have its names"
    for listed in ("x.png", "x.jpg.png"):
        assert listed_mask(tmp_path / "a" / listed, Path("images/x.jpg")) == tmp_path / "a" / name


def test_a_listed_mask_that_exists_is_taken(tmp_path: Path) -> None:
    for name in ("x.jpg.png", "other.png"):
        (tmp_path / name).touch()
    assert listed_mask(tmp_path / "other.png", Path("x.jpg")) == tmp_path / "other.png"
    assert listed_mask(tmp_path / "absent.png", Path("y.jpg")) == tmp_path / "absent.png"
