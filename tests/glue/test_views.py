"""Photographs of any kind become views, and views agree with their lens to a fraction of a pixel."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from genlangsplat_ns.cameras import view_geometry
from genlangsplat_ns.datamanager import GenLangSplatDataManager, GenLangSplatDataManagerConfig
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.extraction import import_langsplat, source_positions

ImageType = Literal["uint8", "float32"]

# Scenes


def write_scene(folder: Path, frames: dict[str, dict[str, Any]], **shared: Any) -> Path:
    """Writes the cameras of the pictures in `folder`/images; all are trained on, and the first one is held out too."""
    names = [f"images/{name}" for name in frames]
    poses = [np.eye(4) + np.eye(4, k=3) * number for number in range(len(frames))]
    transforms = {
        **shared,
        "train_filenames": names,
        "val_filenames": names[:1],
        "test_filenames": names[:1],
        "frames": [
            {"file_path": name, "transform_matrix": pose.tolist(), **frame}
            for name, pose, frame in zip(names, poses, frames.values(), strict=True)
        ],
    }
    (folder / "transforms.json").write_text(json.dumps(transforms))
    return folder


def pinhole(size: tuple[int, int]) -> dict[str, Any]:
    """A camera without distortion for pictures of a width and height."""
    width, height = size
    return {"w": width, "h": height, "fl_x": width, "fl_y": width, "cx": width / 2, "cy": height / 2}


def open_scene(folder: Path, image_type: ImageType = "uint8", **settings: Any) -> GenLangSplatDataManager:
    """Opens the views without reading any picture."""
    parser = NerfstudioDataParserConfig(auto_scale_poses=False)
    settings = {"encoder": "conse", "masks": "watershed", **settings}
    config = GenLangSplatDataManagerConfig(data=folder, dataparser=parser, cache_images_type=image_type, **settings)
    return GenLangSplatDataManager(config, device="cpu", test_mode="test")


def scene_of(
    folder: Path, picture: Image.Image, name: str = "view.png", camera_size: tuple[int, int] | None = None, **save: Any
) -> GenLangSplatDataManager:
    """Opens a scene of one picture, whose camera has its size or another one."""
    (folder / "images").mkdir()
    picture.save(folder / "images" / name, **save)
    return open_scene(write_scene(folder, {name: pinhole(camera_size or picture.size)}))


def view_of(*args: Any, **kwargs: Any) -> np.ndarray:
    """The only view of such a scene."""
    return scene_of(*args, **kwargs).image("train", 0).numpy()


def ramp(size: tuple[int, int], channels: int) -> np.ndarray:
    """Smooth colours that differ in all corners and channels, so that no turn or swap goes unseen."""
    columns, rows = np.meshgrid(*(np.linspace(0, 1, side) for side in size))
    planes = (columns, rows, 1 - columns * rows, 0.2 + 0.6 * rows)[:channels]
    return (np.stack(planes, axis=-1) * 255).round().astype(np.uint8)


SIZE = (24, 16)

# Kinds of photographs


def test_grey_pictures_have_three_equal_channels(tmp_path: Path) -> None:
    grey = ramp(SIZE, 1)[..., 0]
    view = view_of(tmp_path, Image.fromarray(grey))
    assert view.shape == (16, 24, 3)
    assert (view == grey[..., None]).all()


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


def test_grey_with_alpha_keeps_both(tmp_path: Path) -> None:
    grey, alpha = ramp(SIZE, 2)[..., 0], ramp(SIZE, 2)[..., 1]
    views = scene_of(tmp_path, Image.fromarray(np.stack([grey, alpha], axis=-1)))
    assert (views.train_dataset.get_numpy_image(0) == np.stack([grey, grey, grey, alpha], axis=-1)).all()


@pytest.mark.parametrize("transparency", [None, 2], ids=["opaque", "one transparent colour"])
def test_palette_pictures_show_their_colours(tmp_path: Path, transparency: int | None) -> None:
    colours = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230]], dtype=np.uint8)
    places = np.indices((16, 24)).sum(axis=0).astype(np.uint8) % 3
    picture = Image.fromarray(places, mode="P")
    picture.putpalette(colours.tobytes())
    views = scene_of(tmp_path, picture, **({} if transparency is None else {"transparency": transparency}))
    pixels = views.train_dataset.get_numpy_image(0)
    assert (pixels[..., :3] == colours[places]).all()
    assert (views.image("train", 0).numpy() == colours[places]).all()
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
"""What the EXIF orientations that swap width and height ask to be done to the stored pixels."""


def marked(orientation: int) -> dict[str, Any]:
    """How to save a JPEG with that orientation and hardly any loss."""
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
    """Wide, high and turned ones; all are scaled by the same factor, and pictures fit their cameras."""
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


# What cannot be read


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
    "narrow.png": (encoded(ramp((23, 16), 3), "PNG"), "has 23x16 pixels, but its camera 24x16"),
    "turned.png": (encoded(ramp((16, 24), 3), "PNG"), "has 16x24 pixels, but its camera 24x16"),
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


# Lenses

RAW_SIZE = (192, 144)
RAW_FOCAL = (130.0, 134.0)
RAW_CENTRE = (98.3, 70.6)
"""With pixel centres at halves, as nerfstudio has it."""


@dataclass(frozen=True)
class Lens:
    """A strongly distorting lens: k1, k2, p1, p2 of OPENCV or k1 to k4 of OPENCV_FISHEYE."""

    camera_model: str
    parameters: tuple[float, float, float, float]
    focal: tuple[float, float] = RAW_FOCAL

    def camera(self) -> dict[str, Any]:
        """What transforms.json says about it."""
        names = ("k1", "k2", "p1", "p2") if self.camera_model == "OPENCV" else ("k1", "k2", "k3", "k4")
        width, height = RAW_SIZE
        return {
            **{"camera_model": self.camera_model, "w": width, "h": height},
            **{"fl_x": self.focal[0], "fl_y": self.focal[1], "cx": RAW_CENTRE[0], "cy": RAW_CENTRE[1]},
            **dict(zip(names, self.parameters, strict=True)),
        }

    def project(self, rays: np.ndarray) -> np.ndarray:
        """Positions on the photograph (pixel centres at whole numbers) of rays (x, y, 1), by the models' formulas."""
        x, y = rays[..., 0], rays[..., 1]
        if self.camera_model == "OPENCV":
            k1, k2, p1, p2 = self.parameters
            square = x * x + y * y
            radial = 1 + k1 * square + k2 * square**2
            bent_x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
            bent_y = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
        else:
            radius = np.maximum(np.hypot(x, y), 1e-12)
            angle = np.arctan(radius)
            bent = angle * (1 + sum(k * angle ** (2 * power) for power, k in enumerate(self.parameters, start=1)))
            bent_x, bent_y = x * bent / radius, y * bent / radius
        return np.stack([bent_x, bent_y], axis=-1) * self.focal + RAW_CENTRE - 0.5

    def raw_rays(self) -> np.ndarray:
        """The ray of every pixel of the photograph, (height, width, 2)."""
        pixels = pixel_grid(RAW_SIZE)
        bent = (pixels + 0.5 - RAW_CENTRE) / self.focal
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 1000, 1e-12)
        flat, identity, parameters = bent.reshape(-1, 1, 2), np.eye(3), np.array(self.parameters)
        if self.camera_model == "OPENCV":
            rays = cv2.undistortPointsIter(flat, identity, parameters, identity, identity, stop)
        else:
            rays = cv2.fisheye.undistortPoints(flat, identity, parameters, criteria=stop)
        rays = rays.reshape(pixels.shape)
        assert np.abs(self.project(rays) - pixels).max() < 1e-6, "the lens cannot be inverted"
        return rays


BARREL = Lens("OPENCV", (-0.28, 0.09, 0.004, -0.003))
PINCUSHION = Lens("OPENCV", (0.25, -0.08, -0.003, 0.004))
FISHEYE = Lens("OPENCV_FISHEYE", (0.05, -0.02, 0.008, -0.003), focal=(105.0, 107.0))
LENSES = pytest.mark.parametrize("lens", [BARREL, PINCUSHION, FISHEYE], ids=["barrel", "pincushion", "fisheye"])
BROWN_LENSES = pytest.mark.parametrize("lens", [BARREL, PINCUSHION], ids=["barrel", "pincushion"])


def pixel_grid(size: tuple[int, int]) -> np.ndarray:
    """Positions (x, y) of all pixels."""
    return np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1).astype(np.float64)


def photograph(folder: Path, lens: Lens, pixels: np.ndarray, count: int = 1) -> Path:
    """A scene of photographs taken through one lens, which the list of photographs names once."""
    (folder / "images").mkdir()
    names = [f"{number}.png" for number in range(count)]
    for name in names:
        Image.fromarray(pixels).save(folder / "images" / name)
    return write_scene(folder, {name: {} for name in names}, **lens.camera())


def view_rays(views: GenLangSplatDataManager, index: int = 0) -> np.ndarray:
    """The pinhole rays of all pixels of a view, by the camera that the datamanager serves."""
    camera = views.camera("train", index)[0]
    centre = np.array([float(camera.cx), float(camera.cy)])
    focal = np.array([float(camera.fx), float(camera.fy)])
    return (pixel_grid((int(camera.width), int(camera.height))) + 0.5 - centre) / focal


def colours(rays: np.ndarray) -> np.ndarray:
    """Smooth colours of directions: waves of some twenty pixels, so that half a pixel's shift is 15 levels and more."""
    unit = rays / np.sqrt(1 + (rays**2).sum(axis=-1, keepdims=True))
    x, y = unit[..., 0], unit[..., 1]
    waves = np.stack([35 * x, 35 * y + 1, 25 * (x + y) + 2], axis=-1)
    return 127.5 + 110 * np.sin(waves)


def drawn(lens: Lens) -> np.ndarray:
    """The photograph of these colours."""
    return colours(lens.raw_rays()).round().astype(np.uint8)


@pytest.mark.parametrize("image_type", ["uint8", "float32"])
@LENSES
def test_an_undistorted_view_is_what_its_pinhole_camera_sees(tmp_path: Path, lens: Lens, image_type: ImageType) -> None:
    """At most 3 of 255 levels, rounding and interpolation included: what a shift by an eighth of a pixel would make."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens)), image_type)
    view, rays = views.image("train", 0).numpy(), view_rays(views)
    assert view.shape[:2] == rays.shape[:2]
    error = np.abs(view - colours(rays))
    # The outermost pixels may mix with the black beyond the photograph.
    assert error[1:-1, 1:-1].max() < 3
    bent = np.linalg.norm(lens.project(rays) - ((rays * lens.focal) + RAW_CENTRE - 0.5), axis=-1)
    assert bent.max() > 8, "the lens hardly distorts, so the test says little"


@pytest.mark.parametrize("image_type", ["uint8", "float32"])
@LENSES
def test_a_view_read_alone_equals_the_one_kept_for_training(tmp_path: Path, lens: Lens, image_type: ImageType) -> None:
    """Bit for bit, before the pictures are kept and after the cameras have been rewritten."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens), count=2), image_type)
    before = [views.image("train", index) for index in range(2)]
    assert "cached_train" not in views.__dict__
    kept = [item["image"] for item in views.cached_train]
    for index in range(2):
        assert kept[index].dtype == getattr(torch, image_type)
        assert torch.equal(views.image("train", index), before[index])
        assert torch.equal(views.train_dataset.undistorted_view(index, image_type), before[index])
        as_bytes = kept[index] if image_type == "uint8" else (kept[index] * 255).round().to(torch.uint8)
        assert torch.equal(as_bytes, before[index])


@LENSES
def test_views_of_one_lens_have_one_camera(tmp_path: Path, lens: Lens) -> None:
    """Rewriting the camera of one view leaves those of the others alone."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens), count=3))
    rays = [view_rays(views, index) for index in range(3)]
    assert all((rays[0] == other).all() for other in rays[1:])
    assert all(torch.equal(views.image("train", 0), views.image("train", index)) for index in (1, 2))
    assert [float(raw.fx) for raw in views.train_dataset.raw_cameras] == [lens.focal[0]] * 3


def line_errors(views: GenLangSplatDataManager, axis: int, places: list[float], image: np.ndarray) -> np.ndarray:
    """How far (pixels) bright lines lie from where the pinhole camera sees rays whose x or y has the given value."""
    camera = views.camera("train", 0)[0]
    focal, centre = (float(camera.fx), float(camera.cx)) if axis == 0 else (float(camera.fy), float(camera.cy))
    strips = image if axis == 0 else image.T
    errors = []
    for place in places:
        expected = place * focal + centre - 0.5
        reach = 9 if len(strips[0]) > 120 else 5
        assert reach < expected < len(strips[0]) - 1 - reach, "the line lies outside the view"
        near = np.arange(round(expected) - reach, round(expected) + reach + 1)
        weights = strips[4:-4, near]
        assert (weights.sum(axis=1) > 100).all(), "the line is missing"
        errors.append((weights * near).sum(axis=1) / weights.sum(axis=1) - expected)
    return np.abs(np.array(errors))


@pytest.mark.parametrize("cap", [None, 96])
@LENSES
def test_edges_land_where_the_pinhole_camera_puts_them(tmp_path: Path, lens: Lens, cap: int | None) -> None:
    """Lines that are straight in space, painted on the photograph two pixels wide, are found by their brightness."""
    rays = lens.raw_rays()
    for axis, places in ((0, [-0.4, -0.2, 0.03, 0.25, 0.42]), (1, [-0.3, -0.05, 0.23])):
        value = rays[..., axis]
        steepness = np.hypot(*np.gradient(value))
        distance = np.min([np.abs(value - place) for place in places], axis=0) / steepness
        pixels = (250 * np.exp(-((distance / 1.2) ** 2) / 2)).round().astype(np.uint8)
        folder = tmp_path / str(axis)
        folder.mkdir()
        views = open_scene(photograph(folder, lens, pixels), max_image_side=cap)
        errors = line_errors(views, axis, places, views.image("train", 0).numpy()[..., 0].astype(np.float64))
        assert errors.max() < 0.2


@LENSES
def test_source_positions_agree_with_the_lens(tmp_path: Path, lens: Lens) -> None:
    """Distance in pixels of the photograph between a position and the ray's projection through the lens's formula."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens)))
    positions = source_positions(views.train_dataset, 0)
    expected = lens.project(view_rays(views))
    assert positions.shape == expected.shape
    inside = (positions >= 0).all(axis=-1)
    assert np.linalg.norm(positions - expected, axis=-1)[inside].max() < 0.1
    beyond = np.maximum(-expected, expected - (np.array(RAW_SIZE) - 1)).max(axis=-1)
    assert (beyond[~inside] > -0.1).all(), "a pixel that shows the photograph has no position"
    assert inside.mean() > 0.95


@LENSES
def test_marks_on_a_photograph_move_to_the_pixels_that_show_them(tmp_path: Path, lens: Lens) -> None:
    """To a hundredth of a pixel, on a photograph of another size too."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens)))
    rays = view_rays(views)[3:-3:10, 3:-3:10].reshape(-1, 2)
    pixels = pixel_grid((int(views.camera("train", 0).width), int(views.camera("train", 0).height)))
    marks = lens.project(rays)
    for factor in (1, 2):
        size = (RAW_SIZE[0] * factor, RAW_SIZE[1] * factor)
        moved = views.undistort("train", 0, (marks + 0.5) * factor - 0.5, size)
        assert np.abs(moved - pixels[3:-3:10, 3:-3:10].reshape(-1, 2)).max() < 0.01


def test_views_of_a_fisheye_lens_are_rendered_as_perspective_ones(tmp_path: Path) -> None:
    views = open_scene(photograph(tmp_path, FISHEYE, drawn(FISHEYE)))
    trained_on, batch = views.next_train(0)
    for camera in (trained_on, views.camera("train", 0), views.camera("eval", 0)):
        geometry = view_geometry(camera)
        assert (geometry.height, geometry.width) == batch["image"].shape[:2]
    assert views.train_dataset.raw_cameras.camera_type.item() == CameraType.FISHEYE.value


def test_source_positions_without_a_lens_are_the_pixels_themselves(tmp_path: Path) -> None:
    views = scene_of(tmp_path, Image.fromarray(ramp(SIZE, 3)))
    assert (source_positions(views.train_dataset, 0) == pixel_grid(SIZE)).all()


def regions_of(rays: np.ndarray) -> np.ndarray:
    """Regions at three levels by direction: tiles with gaps, discs, and three stripes; -1 is none, (3, height, width).

    Rows are numbered through all levels, as in LangSplat's files.
    """
    x, y = rays[..., 0], rays[..., 1]
    tile_x, tile_y = np.floor(x / 0.17).astype(int), np.floor(y / 0.17).astype(int)
    tiles = np.where((tile_x + tile_y) % 3 == 0, -1, (tile_x + 10) * 20 + tile_y + 10)
    discs = np.full(x.shape, -1)
    for number, (centre_x, centre_y) in enumerate([(-0.4, -0.2), (0.1, 0.05), (0.4, 0.25)]):
        discs[np.hypot(x - centre_x, y - centre_y) < 0.18] = 400 + number
    stripes = 403 + np.digitize(x + 0.5 * y, [-0.2, 0.3])
    return np.stack([tiles, discs, stripes])


NUM_REGIONS = 406


@pytest.mark.parametrize("cap", [None, 96])
@BROWN_LENSES
def test_converted_regions_land_on_the_pixels_that_show_them(
    tmp_path: Path, rng: np.random.Generator, lens: Lens, cap: int | None
) -> None:
    """Borders are at most one pixel off.

    With a cap the map stays as fine as the photograph while the view is half as wide, which is LangSplat's usual case.
    """
    scene = photograph(tmp_path, lens, drawn(lens))
    rows = rng.standard_normal((NUM_REGIONS, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    raw = regions_of(lens.raw_rays())
    folder = tmp_path / "langsplat"
    folder.mkdir()
    np.save(folder / "0_s.npy", np.concatenate([raw[2:], raw]).astype(np.float32))
    np.save(folder / "0_f.npy", rows)
    views = open_scene(scene, masks="langsplat", max_image_side=cap)
    import_langsplat(views, folder)
    features = views.language_features("train", 0)
    # A region is known by its embedding.
    known = (features.embeddings.numpy() @ rows.T).argmax(axis=1)
    regions = features.regions.numpy()
    rays = view_rays(views)
    found, expected = np.where(regions >= 0, known[regions], -1), regions_of(rays)
    assert found.shape == expected.shape
    shown = (source_positions(views.train_dataset, 0) >= 0).all(axis=-1)
    camera = views.camera("train", 0)[0]
    pixel = np.array([1 / float(camera.fx), 1 / float(camera.fy)])
    steps = np.linspace(-1, 1, 5)
    around = np.stack([regions_of(rays + np.array([x, y]) * pixel) for x in steps for y in steps])
    assert (found == around).any(axis=0)[:, shown].all()
    assert (found == expected)[:, shown].mean() > 0.95
    assert (found[:, ~shown] == -1).all() and shown.mean() > 0.95
    # Along a whole border the pixels' rounding averages out, so that a shift by half a pixel shows.
    for disc in (400, 401, 402):
        shift = np.argwhere(found[1] == disc).mean(axis=0) - np.argwhere(expected[1] == disc).mean(axis=0)
        assert np.abs(shift).max() < 0.3
