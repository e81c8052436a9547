"""Images of any mode become views."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import eight_bit, read_photograph
from genlangsplat_ns.views.downscaling import picture_size
from genlangsplat_ns.views.masks import read_mask
from tests.views.view_scenes import SIZE, open_scene, pinhole, ramp, scene_of, view_of, write_scene


def test_gray_pictures_have_three_equal_channels(tmp_path: Path) -> None:
    gray = ramp(SIZE, 1)[..., 0]
    view = view_of(tmp_path, Image.fromarray(gray))
    assert view.shape == (16, 24, 3)
    assert (view == gray[..., None]).all()


def test_black_and_white_pictures_use_the_full_range(tmp_path: Path) -> None:
    light = ramp(SIZE, 1)[..., 0] > 127
    view = view_of(tmp_path, Image.fromarray(light))
    assert (view == np.where(light, 255, 0)[..., None]).all()


def test_alpha_is_kept_for_training_and_left_out_of_the_view(tmp_path: Path) -> None:
    pixels = ramp(SIZE, 4)
    views = scene_of(tmp_path, Image.fromarray(pixels))
    assert (views.image("train", 0).numpy() == pixels[..., :3]).all()
    assert (views.cached_train[0]["image"].numpy() == pixels).all()
    assert (views.image("train", 0).numpy() == pixels[..., :3]).all()


def test_gray_with_alpha_keeps_both(tmp_path: Path) -> None:
    gray, alpha = ramp(SIZE, 2)[..., 0], ramp(SIZE, 2)[..., 1]
    views = scene_of(tmp_path, Image.fromarray(np.stack([gray, alpha], axis=-1)))
    assert (views.train_dataset.get_numpy_image(0) == np.stack([gray, gray, gray, alpha], axis=-1)).all()


@pytest.mark.parametrize("transparency", [None, 2], ids=["opaque", "one transparent color"])
def test_palette_pictures_show_their_colors(tmp_path: Path, transparency: int | None) -> None:
    colors = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230]], dtype=np.uint8)
    places = np.indices((16, 24)).sum(axis=0).astype(np.uint8) % 3
    picture = Image.fromarray(places, mode="P")
    picture.putpalette(colors.tobytes())
    views = scene_of(tmp_path, picture, **({} if transparency is None else {"transparency": transparency}))
    pixels = views.train_dataset.get_numpy_image(0)
    assert (pixels[..., :3] == colors[places]).all()
    assert (views.image("train", 0).numpy() == colors[places]).all()
    if transparency is None:
        assert pixels.shape[2] == 3
    else:
        assert (pixels[..., 3] == np.where(places == transparency, 0, 255)).all()


def test_cmyk_photographs_become_rgb(tmp_path: Path) -> None:
    inks = ramp((32, 32), 4)
    view = view_of(tmp_path, Image.fromarray(inks, mode="CMYK"), "view.jpg", quality=100, subsampling=0)
    expected = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert np.abs(view - expected).max() < 6


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 24 * 16).round().astype(np.uint16).reshape(16, 24)
    view = view_of(tmp_path, Image.fromarray(deep))
    assert np.abs(view[..., 0] - deep / 257).max() <= 1
    assert view.min() == 0 and view.max() == 255
    assert (np.diff(view[..., 0].ravel().astype(int)) >= 0).all(), "values wrapped around"


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}
"""Pixel transforms of the EXIF orientations that swap width and height."""


def marked(orientation: int) -> dict[str, Any]:
    """Options to save a JPEG with an orientation and little loss."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif.tobytes(), "quality": 100, "subsampling": 0}


@pytest.mark.parametrize("orientation", TURNS)
def test_a_photograph_is_turned_when_its_camera_has_the_turned_size(tmp_path: Path, orientation: int) -> None:
    stored = ramp(SIZE, 3)
    view = view_of(tmp_path, Image.fromarray(stored), "view.jpg", SIZE[::-1], **marked(orientation))
    assert view.shape == (24, 16, 3)
    assert np.abs(view.astype(int) - TURNS[orientation](stored)).max() <= 4


@pytest.mark.parametrize("orientation", [3, *TURNS])
def test_a_photograph_stays_as_stored_when_its_camera_has_the_stored_size(tmp_path: Path, orientation: int) -> None:
    stored = ramp(SIZE, 3)
    view = view_of(tmp_path, Image.fromarray(stored), "view.jpg", SIZE, **marked(orientation))
    assert np.abs(view.astype(int) - stored).max() <= 4


@pytest.mark.parametrize("cap", [None, 40])
def test_pictures_of_one_scene_may_have_different_sizes(tmp_path: Path, cap: int | None) -> None:
    """Landscape, portrait and rotated images are scaled by the same factor and match their cameras."""
    sizes = {"a.png": (64, 48), "b.png": (32, 64), "c.jpg": (36, 60)}
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(ramp(sizes[name], 3)).save(tmp_path / "images" / name)
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(ramp(sizes["c.jpg"], 3), 1)))
    turned.save(tmp_path / "images" / "c.jpg", **marked(6))
    views = open_scene(write_scene(tmp_path, {name: pinhole(size) for name, size in sizes.items()}), max_image_side=cap)
    streamed = [views.image("train", index) for index in range(3)]
    scale = 1.0 if cap is None else cap / 64
    for index, (width, height) in enumerate(sizes.values()):
        view, camera = streamed[index].numpy(), views.camera("train", index)[0]
        assert view.shape == (int(height * scale), int(width * scale), 3)
        assert (int(camera.height), int(camera.width)) == view.shape[:2]
        assert float(camera.fx) == pytest.approx(width * scale) and float(camera.cy) == pytest.approx(
            height * scale / 2
        )
        assert np.abs(view.astype(int) - ramp((view.shape[1], view.shape[0]), 3)).max() <= 8
        assert (views.image("train", index).numpy() == view).all()


# Unreadable files


def garbage() -> bytes:
    return b"this is no picture" * 9


def encoded(picture: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def truncated(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    data = encoded(noise, kind)
    return data[:-150]


BROKEN = {
    "garbage.png": (garbage(), "cannot be read"),
    "empty.jpg": (b"", "cannot be read"),
    "truncated.png": (truncated("PNG"), "cannot be read"),
    "truncated.jpg": (truncated("JPEG"), "cannot be read"),
    "narrow.png": (encoded(ramp((22, 16), 3), "PNG"), "has 22x16 pixels, but its camera has 24x16"),
    "turned.png": (encoded(ramp((16, 24), 3), "PNG"), "has 16x24 pixels, but its camera has 24x16"),
    "float.tif": (encoded(ramp(SIZE, 1)[..., 0].astype(np.float32), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_picture_that_cannot_be_used_is_named(tmp_path: Path, name: str, first: bool) -> None:
    data, message = BROKEN[name]
    (tmp_path / "images").mkdir()
    good = f"{'z' if first else 'a'}.png"
    Image.fromarray(ramp(SIZE, 3)).save(tmp_path / "images" / good)
    (tmp_path / "images" / name).write_bytes(data)
    write_scene(tmp_path, {key: pinhole(SIZE) for key in sorted([good, name])})
    with pytest.raises(GenLangSplatError, match=message) as alone:
        _ = open_scene(tmp_path).image("train", 0 if first else 1)
    with pytest.raises(GenLangSplatError, match=message) as among_all:
        _ = open_scene(tmp_path).cached_train
    assert name in str(alone.value) and name in str(among_all.value)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_transparent_color_has_no_opacity(tmp_path: Path, mode: str) -> None:
    """PNG files without alpha may name one color that is transparent."""
    picture = Image.new(mode, (4, 2), 7 if mode == "L" else (7, 7, 7))
    picture.putpixel((1, 0), 200 if mode == "L" else (200, 200, 200))
    picture.save(tmp_path / "a.png", transparency=7 if mode == "L" else (7, 7, 7))
    with Image.open(tmp_path / "a.png") as file:
        alpha = np.asarray(eight_bit(file, "a.png"))[..., 3]
    assert alpha[0].tolist() == [0, 255, 0, 0] and not alpha[1].any()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.HEIC", b"\0\0\0\x18ftypheic", "HEIC is not read; convert the photographs to JPEG"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_files_that_are_often_given_as_pictures_are_recognized(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GenLangSplatError, match=problem):
        read_photograph(tmp_path / name, "Replace it.")


def test_a_small_file_with_a_large_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A damaged size would otherwise take a gigabyte; the plainest JPEG has a fifth of the allowed pixels."""
    for name, picture in (("made-up.gif", Image.new("1", (7000, 7000))), ("plain.jpg", Image.new("RGB", (7000, 3000)))):
        picture.save(tmp_path / name)
    Image.new("1", (4000, 4000)).save(tmp_path / "free.gif")
    with pytest.raises(
        GenLangSplatError, match=r"made-up\.gif .*claims 7000x7000 pixels, expected at most [\d,]+\)\. Replace it"
    ):
        read_photograph(tmp_path / "made-up.gif", "Replace it.")
    assert read_photograph(tmp_path / "plain.jpg", "Replace it.", 70).shape == (30, 70, 3)
    assert read_photograph(tmp_path / "free.gif", "Replace it.", 70).shape == (70, 70, 3)


def test_a_small_webp_file_with_a_large_picture_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow takes half a gigabyte for this one when it opens it."""
    content = io.BytesIO()
    Image.new("RGBA", (40, 30), (9, 9, 9, 0)).save(content, "WEBP")
    header = content.getvalue()[:24] + (14_415).to_bytes(3, "little") + (9_759).to_bytes(3, "little")
    (tmp_path / "made-up.webp").write_bytes(header + content.getvalue()[30:])
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    readers: list[Callable[[Path], Any]] = [
        lambda path: read_photograph(path, "Replace it."),
        lambda path: read_mask(path, (40, 30)),
        picture_size,
    ]
    for read in readers:
        with pytest.raises(GenLangSplatError, match=r"made-up\.webp .*claims 14416x9760 pixels, expected at most"):
            read(tmp_path / "made-up.webp")
