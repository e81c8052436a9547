"""Folders of images as a source: files, keys and pixels."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import rgb_pixels
from pretrain.sources import ImageFolderSource
from tests.pretrain.sens_writer import smooth_picture

PIXELS = smooth_picture(1)


def put(path: Path, picture: Image.Image | None = None, **save: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.fromarray(PIXELS)).save(path, **save)


def only_picture(folder: Path, picture: Image.Image, name: str = "a.png", **save: Any) -> np.ndarray:
    """Returns the pixels of the only image of a source."""
    put(folder / name, picture, **save)
    source = ImageFolderSource(folder)
    (frame,) = source.frames()
    return source.load(frame).numpy()


# Files


def test_pictures_of_all_kinds_are_found_at_any_depth(tmp_path: Path) -> None:
    names = ("a.JPG", "b/c.jpeg", "b/d/e.png", "f/g.webp", "f/h.tif", "f/i.tiff", "j.bmp")
    for name in names:
        put(tmp_path / name)
    (tmp_path / "b" / "notes.txt").touch()
    source = ImageFolderSource(tmp_path)
    frames = source.frames()
    assert [frame.key for frame in frames] == sorted(names)
    assert {frame.key: frame.scene for frame in frames} == {
        name: name.split("/")[0] if "/" in name else tmp_path.name for name in names
    }
    assert all(source.load(frame).shape == (16, 24, 3) for frame in frames)
    assert source.name == tmp_path.name and ImageFolderSource(tmp_path, name="mine").name == "mine"


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a.png", ".b.png", ".c/d.png", "e/.f/g.png"):
        put(tmp_path / name)
    assert [frame.key for frame in ImageFolderSource(tmp_path).frames()] == ["a.png"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root / "b" / "c.png")
    put(tmp_path / "elsewhere" / "d.png")
    os.symlink(root, root / "b" / "back")
    os.symlink(root / "b", root / "again")
    os.symlink(tmp_path / "elsewhere", root / "linked")
    assert [frame.key for frame in ImageFolderSource(root).frames()] == ["again/c.png", "linked/d.png"]


def test_a_source_travels_as_a_few_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data" / "a.png")
    monkeypatch.chdir(tmp_path)
    source = ImageFolderSource(Path("data"))
    packed = pickle.dumps(source)
    assert len(packed) < 400
    monkeypatch.chdir("/")
    assert (pickle.loads(packed).load(source.frames()[0]).numpy() == PIXELS).all()


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"no images in .*\.webp"):
        ImageFolderSource(tmp_path).frames()
    with pytest.raises(GenLangSplatError, match="is not a folder"):
        ImageFolderSource(tmp_path / "absent")
    with pytest.raises(GenLangSplatError, match="max_side is -3"):
        ImageFolderSource(tmp_path, max_side=-3)


# Pixels


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_turned_photographs_stand_upright(tmp_path: Path, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = only_picture(tmp_path, Image.fromarray(PIXELS), exif=exif.tobytes())
    assert (pixels == np.rot90(PIXELS, turns)).all()


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), max_side=st.integers(1, 45))
def test_the_long_side_keeps_the_limit_and_the_picture_its_mean(width: int, height: int, max_side: int) -> None:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = rgb_pixels(Image.fromarray(noise), "noise", max_side)
    if max(width, height) <= max_side:
        assert (pixels == noise).all()
    else:
        assert max(pixels.shape[:2]) == max_side
        assert np.abs(pixels.mean(axis=(0, 1)) - noise.mean(axis=(0, 1))).max() <= 1


BROKEN = {
    "garbage.png": (b"this is no picture" * 9, "cannot be read as an image"),
    "empty.jpg": (b"", "cannot be read as an image"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_photograph_is_named_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    data, message = BROKEN[name]
    put(tmp_path / "a.png")
    (tmp_path / name).write_bytes(data)
    source = ImageFolderSource(tmp_path)
    good, bad = source.frames()
    assert (source.load(good).numpy() == PIXELS).all()
    with pytest.raises(GenLangSplatError, match=f"{name} {message}"):
        source.load(bad)


def test_floating_point_and_endless_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GenLangSplatError, match=r"a.tif contains floating-point pixels"):
        only_picture(tmp_path, Image.fromarray(PIXELS[..., 0].astype(np.float32)), "a.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(GenLangSplatError, match=r"a.png cannot be read .*more than 200 pixels"):
        only_picture(tmp_path / "large", Image.fromarray(PIXELS))


def test_a_lost_photograph_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    os.symlink(tmp_path / "gone.png", tmp_path / "b.png")
    source = ImageFolderSource(tmp_path)
    with pytest.raises(GenLangSplatError, match=r"b.png cannot be read .*No such file"):
        source.load(source.frames()[1])
