"""Photographs in a scene are upright, not too large, and only those that differ."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.prepare import PreparedPhotograph, prepare_photographs, read_record
from genlangsplat_ns.photographs.sources import FoundPhotographs
from tests.photographs.fakes import SIZE, write_photographs

NAMES = ("1.jpg", "2.jpg", "3.jpg")


def prepare(
    tmp_path: Path, names: tuple[str, ...] = NAMES, max_side: int = 100, masks: Path | None = None
) -> list[PreparedPhotograph]:
    found = FoundPhotographs(tmp_path / "source", names, masks)
    scene = tmp_path / "scene"
    return prepare_photographs(found, scene / "images", scene / "masks", max_side, scene / "colmap/photographs.json")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file)


def test_photographs_that_fit_are_copied_as_they_are(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES)
    assert [item.name for item in prepare(tmp_path)] == list(NAMES)
    for name in NAMES:
        assert (tmp_path / "scene/images" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()


def test_large_photographs_are_scaled_down(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES, (400, 200))
    assert {(item.width, item.height) for item in prepare(tmp_path)} == {(100, 50)}
    assert pixels(tmp_path / "scene/images/1.jpg").shape == (50, 100, 3)


def test_lying_photographs_are_turned_upright(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("L", SIZE)
    picture.paste(255, (0, 0, SIZE[0], 10))
    picture.save(tmp_path / "source/1.jpg", exif=exif)
    first = prepare(tmp_path)[0]
    upright = pixels(tmp_path / "scene/images/1.jpg")
    assert (first.width, first.height) == SIZE[::-1] and upright.shape[:2] == (SIZE[0], SIZE[1])
    # The bright rows at the top of the file are at the right.
    assert upright[:, -5:].mean() > 250 and upright[:, :5].mean() < 5
    with Image.open(tmp_path / "scene/images/1.jpg") as file:
        assert file.getexif().get(0x0112, 1) == 1


def test_other_formats_become_png_and_some_characters_underscores(tmp_path: Path) -> None:
    names = ("my photo.webp", "sub folder/2.tif", "#3.jpeg")
    write_photographs(tmp_path / "source", names)
    assert [item.name for item in prepare(tmp_path, names)] == ["my_photo.png", "sub_folder/2.png", "_3.jpeg"]


def test_photographs_of_one_name_are_refused(tmp_path: Path) -> None:
    names = ("a.webp", "a.png", "b.png")
    write_photographs(tmp_path / "source", names)
    with pytest.raises(GenLangSplatError, match=r"a\.webp and a\.png would both be named a\.png"):
        prepare(tmp_path, names)


def test_equal_photographs_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_photographs(tmp_path / "source", NAMES)
    (tmp_path / "source/4.jpg").write_bytes((tmp_path / "source/1.jpg").read_bytes())
    with caplog.at_level(logging.WARNING):
        assert [item.name for item in prepare(tmp_path, (*NAMES, "4.jpg"))] == list(NAMES)
    assert "Left out 1 photographs that equal others" in caplog.text


def test_photographs_that_are_all_equal_are_refused(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES[:1])
    for name in NAMES[1:]:
        (tmp_path / "source" / name).write_bytes((tmp_path / "source/1.jpg").read_bytes())
    with pytest.raises(GenLangSplatError, match="Only 1 of 3 photographs differ"):
        prepare(tmp_path)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES)
    (tmp_path / "source/2.jpg").write_text("<!doctype html>")
    with pytest.raises(GenLangSplatError, match=r"2\.jpg cannot be read as an image \(it is a web page"):
        prepare(tmp_path)


def test_a_photograph_with_damaged_exif_data_is_named(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Maker", "x" * 100
    Image.new("RGB", SIZE).save(tmp_path / "source/2.jpg", exif=exif)
    data = (tmp_path / "source/2.jpg").read_bytes()
    # The type of the maker's name: fractions instead of a text.
    text, fractions = b"\x01\x0f\x00\x02", b"\x01\x0f\x00\x05"
    assert data.count(text) == 1
    (tmp_path / "source/2.jpg").write_bytes(data.replace(text, fractions))
    with pytest.raises(GenLangSplatError, match=r"2\.jpg cannot be read as an image"):
        prepare(tmp_path)


def test_blur_lowers_the_sharpness(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES)
    with Image.open(tmp_path / "source/1.jpg") as file:
        file.filter(ImageFilter.GaussianBlur(3)).save(tmp_path / "source/2.jpg")
    sharp, blurred, _ = prepare(tmp_path)
    assert blurred.sharpness < 0.1 * sharp.sharpness


def test_masks_and_transparent_pixels_are_written_beside(tmp_path: Path) -> None:
    names = ("1.jpg", "2.png", "3.jpg")
    write_photographs(tmp_path / "source", names)
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[:, :20] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/1.png")
    with Image.open(tmp_path / "source/2.png") as file:
        file.putalpha(Image.fromarray(mask))
        file.save(tmp_path / "source/2.png")
    masked, transparent, plain = prepare(tmp_path, names, masks=tmp_path / "masks")
    assert (masked.mask, transparent.mask, plain.mask) == ("1.jpg.png", "2.png.png", None)
    for item in (masked, transparent):
        assert np.array_equal(pixels(tmp_path / "scene/masks" / str(item.mask)), mask)


def test_a_mask_of_an_upright_photograph_fits_the_lying_file_or_the_upright_picture(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", SIZE).save(tmp_path / "source/1.jpg", exif=exif)
    mask = np.zeros((SIZE[0], SIZE[1]), np.uint8)
    mask[:, -5:] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/1.png")
    assert prepare(tmp_path, masks=tmp_path / "masks")[0].mask == "1.jpg.png"
    assert np.array_equal(pixels(tmp_path / "scene/masks/1.jpg.png"), mask)


def test_only_changed_photographs_are_read_again(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES)
    before = prepare(tmp_path)
    copied = [(tmp_path / "scene/images" / name).stat().st_mtime_ns for name in NAMES]
    write_photographs(tmp_path / "source", ("a.jpg", "b.jpg", "c.jpg", "2.jpg"))
    after = prepare(tmp_path)
    now = [(tmp_path / "scene/images" / name).stat().st_mtime_ns for name in NAMES]
    assert [first == second for first, second in zip(copied, now, strict=True)] == [True, False, True]
    assert [first == second for first, second in zip(before, after, strict=True)] == [True, False, True]


def test_copies_of_photographs_that_are_gone_are_removed(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", (*NAMES, "4.jpg"))
    prepare(tmp_path, (*NAMES, "4.jpg"))
    prepare(tmp_path)
    assert sorted(path.name for path in (tmp_path / "scene/images").iterdir()) == list(NAMES)


def test_a_damaged_record_is_written_again(tmp_path: Path) -> None:
    write_photographs(tmp_path / "source", NAMES)
    before = prepare(tmp_path)
    (tmp_path / "scene/colmap/photographs.json").write_text('{"1.jpg": [')
    assert prepare(tmp_path) == before


@pytest.mark.parametrize("change", ["the source is removed", "the copy is lost"])
def test_masks_in_the_scene_are_those_of_the_source(tmp_path: Path, change: str) -> None:
    write_photographs(tmp_path / "source", NAMES)
    (tmp_path / "masks").mkdir()
    for name in ("1.png", "2.png"):
        Image.new("L", SIZE).save(tmp_path / "masks" / name)
    prepare(tmp_path, masks=tmp_path / "masks")
    lost = "masks/1.png" if change == "the source is removed" else "scene/masks/1.jpg.png"
    (tmp_path / lost).unlink()
    left = ["2.jpg.png"] if change == "the source is removed" else ["1.jpg.png", "2.jpg.png"]
    assert [item.mask for item in prepare(tmp_path, masks=tmp_path / "masks") if item.mask] == left
    assert sorted(path.name for path in (tmp_path / "scene/masks").iterdir()) == left


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../1.jpg"),
        ("name", "/1.jpg"),
        ("mask", 3),
        ("width", "wide"),
        ("shot", []),
        ("key", None),
        ("digest", 0),
    ],
)
def test_a_damaged_record_of_former_calls_is_not_used(tmp_path: Path, key: str, value: object) -> None:
    write_photographs(tmp_path / "source", NAMES)
    before = prepare(tmp_path)
    record = tmp_path / "scene/colmap/photographs.json"
    assert set(read_record(record)) == set(NAMES)
    entries = json.loads(record.read_text())
    record.write_text(json.dumps({**entries, "1.jpg": {**entries["1.jpg"], key: value}}))
    assert read_record(record) == {} and prepare(tmp_path) == before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"1.jpg": 1}', "[" * 100_000])
def test_a_record_that_is_something_else_is_not_used(tmp_path: Path, content: str) -> None:
    (tmp_path / "photographs.json").write_text(content)
    assert read_record(tmp_path / "photographs.json") == {}
