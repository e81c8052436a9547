"""Undistorted views agree with the lens model within a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from PIL import Image

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.scene.extraction import import_langsplat, source_positions
from genlangsplat_ns.views.cameras import view_of_camera
from tests.views.view_scenes import SIZE, ImageType, open_scene, ramp, scene_of, write_scene

# Lenses

RAW_SIZE = (192, 144)
RAW_FOCAL = (130.0, 134.0)
RAW_CENTER = (98.3, 70.6)
"""Pixel centers are at half-integers, as in nerfstudio."""


@dataclass(frozen=True)
class Lens:
    """A strongly distorting lens: k1, k2, p1, p2 of OPENCV or k1 to k4 of OPENCV_FISHEYE."""

    camera_model: str
    parameters: tuple[float, float, float, float]
    focal: tuple[float, float] = RAW_FOCAL

    def camera(self) -> dict[str, Any]:
        """The entries of the lens in transforms.json."""
        names = ("k1", "k2", "p1", "p2") if self.camera_model == "OPENCV" else ("k1", "k2", "k3", "k4")
        width, height = RAW_SIZE
        return {
            **{"camera_model": self.camera_model, "w": width, "h": height},
            **{"fl_x": self.focal[0], "fl_y": self.focal[1], "cx": RAW_CENTER[0], "cy": RAW_CENTER[1]},
            **dict(zip(names, self.parameters, strict=True)),
        }

    def project(self, rays: np.ndarray) -> np.ndarray:
        """Projects rays (x, y, 1) to the photograph (pixel centers at integers) by the formulas of the lens model."""
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
        return np.stack([bent_x, bent_y], axis=-1) * self.focal + RAW_CENTER - 0.5

    def raw_rays(self) -> np.ndarray:
        """The ray of every pixel of the photograph, (height, width, 2)."""
        pixels = pixel_grid(RAW_SIZE)
        bent = (pixels + 0.5 - RAW_CENTER) / self.focal
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
    """Writes a scene of photographs that share one lens."""
    (folder / "images").mkdir()
    names = [f"{number}.png" for number in range(count)]
    for name in names:
        Image.fromarray(pixels).save(folder / "images" / name)
    return write_scene(folder, {name: {} for name in names}, **lens.camera())


def view_rays(views: GenLangSplatDataManager, index: int = 0) -> np.ndarray:
    """The pinhole rays of all pixels of a view, for the camera that the datamanager serves."""
    camera = views.camera("train", index)[0]
    center = np.array([float(camera.cx), float(camera.cy)])
    focal = np.array([float(camera.fx), float(camera.fy)])
    return (pixel_grid((int(camera.width), int(camera.height))) + 0.5 - center) / focal


def colors(rays: np.ndarray) -> np.ndarray:
    """Smooth colors of directions. With waves of about 20 pixels, a shift by half a pixel changes 15 levels or more."""
    unit = rays / np.sqrt(1 + (rays**2).sum(axis=-1, keepdims=True))
    x, y = unit[..., 0], unit[..., 1]
    waves = np.stack([35 * x, 35 * y + 1, 25 * (x + y) + 2], axis=-1)
    return 127.5 + 110 * np.sin(waves)


def drawn(lens: Lens) -> np.ndarray:
    """The photograph of `colors` through a lens."""
    return colors(lens.raw_rays()).round().astype(np.uint8)


@pytest.mark.parametrize("image_type", ["uint8", "float32"])
@LENSES
def test_an_undistorted_view_is_what_its_pinhole_camera_sees(tmp_path: Path, lens: Lens, image_type: ImageType) -> None:
    """The error is at most 3 of 255 levels including rounding and interpolation, as for a shift by 1/8 pixel."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens)), image_type)
    view, rays = views.image("train", 0).numpy(), view_rays(views)
    assert view.shape[:2] == rays.shape[:2]
    error = np.abs(view - colors(rays))
    # The outermost pixels may be mixed with the black outside the photograph.
    assert error[1:-1, 1:-1].max() < 3
    bent = np.linalg.norm(lens.project(rays) - ((rays * lens.focal) + RAW_CENTER - 0.5), axis=-1)
    assert bent.max() > 8, "the distortion is too small for this test"


@pytest.mark.parametrize("image_type", ["uint8", "float32"])
@LENSES
def test_a_single_view_equals_the_cached_training_view(tmp_path: Path, lens: Lens, image_type: ImageType) -> None:
    """The views are bit-identical before and after the images are cached and the cameras are rewritten."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens), count=2), image_type)
    before = [views.image("train", index) for index in range(2)]
    assert "cached_train" not in views.__dict__
    kept = [item["image"] for item in views.cached_train]
    for index in range(2):
        assert kept[index].dtype == getattr(torch, image_type)
        assert torch.equal(views.image("train", index), before[index])
        assert torch.equal(views.train_dataset.undistorted(index, image_type).rgb, before[index])
        as_bytes = kept[index] if image_type == "uint8" else (kept[index] * 255).round().to(torch.uint8)
        assert torch.equal(as_bytes, before[index])


@LENSES
def test_views_of_one_lens_have_one_camera(tmp_path: Path, lens: Lens) -> None:
    """Rewriting the camera of one view does not change the cameras of the others."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens), count=3))
    rays = [view_rays(views, index) for index in range(3)]
    assert all((rays[0] == other).all() for other in rays[1:])
    assert all(torch.equal(views.image("train", 0), views.image("train", index)) for index in (1, 2))
    assert [float(raw.fx) for raw in views.train_dataset.raw_cameras] == [lens.focal[0]] * 3


def line_errors(views: GenLangSplatDataManager, axis: int, places: list[float], image: np.ndarray) -> np.ndarray:
    """Distance in pixels between bright lines and the projections of rays with the given x or y."""
    camera = views.camera("train", 0)[0]
    focal, center = (float(camera.fx), float(camera.cx)) if axis == 0 else (float(camera.fy), float(camera.cy))
    strips = image if axis == 0 else image.T
    errors = []
    for place in places:
        expected = place * focal + center - 0.5
        reach = 9 if len(strips[0]) > 120 else 5
        assert reach < expected < len(strips[0]) - 1 - reach, "the line lies outside the view"
        near = np.arange(round(expected) - reach, round(expected) + reach + 1)
        weights = strips[4:-4, near]
        assert (weights.sum(axis=1) > 100).all(), "the line is missing"
        errors.append((weights * near).sum(axis=1) / weights.sum(axis=1) - expected)
    return np.abs(np.array(errors))


@pytest.mark.parametrize("cap", [None, 96])
@LENSES
def test_lines_are_where_the_pinhole_camera_projects_them(tmp_path: Path, lens: Lens, cap: int | None) -> None:
    """Lines that are straight in 3D, painted two pixels wide on the photograph, are found by their brightness."""
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
    """Compares positions with the projections of the rays by the lens formula, in pixels of the photograph."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens)))
    positions = source_positions(views.train_dataset, 0)
    expected = lens.project(view_rays(views))
    assert positions.shape == expected.shape
    inside = (positions >= 0).all(axis=-1)
    assert np.linalg.norm(positions - expected, axis=-1)[inside].max() < 0.1
    beyond = np.maximum(-expected, expected - (np.array(RAW_SIZE) - 1)).max(axis=-1)
    assert (beyond[~inside] > -0.1).all(), "a pixel inside the photograph has no position"
    assert inside.mean() > 0.95


@LENSES
def test_points_on_a_photograph_move_to_their_pixels_in_the_view(tmp_path: Path, lens: Lens) -> None:
    """The error is below 0.01 pixels, also for a photograph of another size."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens)))
    rays = view_rays(views)[3:-3:10, 3:-3:10].reshape(-1, 2)
    pixels = pixel_grid((int(views.camera("train", 0).width), int(views.camera("train", 0).height)))
    marks = lens.project(rays)
    for factor in (1, 2):
        size = (RAW_SIZE[0] * factor, RAW_SIZE[1] * factor)
        moved = views.undistort("train", 0, (marks + 0.5) * factor - 0.5, size)
        assert np.abs(moved - pixels[3:-3:10, 3:-3:10].reshape(-1, 2)).max() < 0.01


@LENSES
def test_masks_of_a_photograph_move_like_points(tmp_path: Path, lens: Lens) -> None:
    """Uses a mask at twice the size. All points at least two pixels from its border must be on the correct side."""
    views = open_scene(photograph(tmp_path, lens, drawn(lens)))
    width, height = RAW_SIZE
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 3 : 3 * width // 4] = True
    moved = views.undistort_mask("train", 0, mask.repeat(2, axis=0).repeat(2, axis=1))
    image = views.image("train", 0)
    assert moved.shape == image.shape[:2] and moved.dtype == bool
    marks = pixel_grid(RAW_SIZE)
    for side in (True, False):
        kept = np.pad(mask == side, 2, constant_values=True)
        shifts = [kept[row : row + height, column : column + width] for row in range(5) for column in range(5)]
        pixels = np.rint(views.undistort("train", 0, marks[np.all(shifts, axis=0)], RAW_SIZE)).astype(int)
        seen = ((pixels >= 0) & (pixels < moved.shape[::-1])).all(axis=1)
        assert seen.any() and (moved[pixels[seen, 1], pixels[seen, 0]] == side).all()


def test_views_of_a_fisheye_lens_are_perspective_views(tmp_path: Path) -> None:
    views = open_scene(photograph(tmp_path, FISHEYE, drawn(FISHEYE)))
    trained_on, batch = views.next_train(0)
    for camera in (trained_on, views.camera("train", 0), views.camera("eval", 0)):
        view = view_of_camera(camera)
        assert (view.height, view.width) == batch["image"].shape[:2]
    assert views.train_dataset.raw_cameras.camera_type.item() == CameraType.FISHEYE.value


def test_source_positions_without_a_lens_are_the_pixels_themselves(tmp_path: Path) -> None:
    views = scene_of(tmp_path, Image.fromarray(ramp(SIZE, 3)))
    assert (source_positions(views.train_dataset, 0) == pixel_grid(SIZE)).all()


def regions_of(rays: np.ndarray) -> np.ndarray:
    """Regions of directions at three levels: tiles with gaps, discs, and stripes. Shape (3, height, width), -1 is none.

    Regions are numbered consecutively over all levels, as in LangSplat's files.
    """
    x, y = rays[..., 0], rays[..., 1]
    tile_x, tile_y = np.floor(x / 0.17).astype(int), np.floor(y / 0.17).astype(int)
    tiles = np.where((tile_x + tile_y) % 3 == 0, -1, (tile_x + 10) * 20 + tile_y + 10)
    discs = np.full(x.shape, -1)
    for number, (center_x, center_y) in enumerate([(-0.4, -0.2), (0.1, 0.05), (0.4, 0.25)]):
        discs[np.hypot(x - center_x, y - center_y) < 0.18] = 400 + number
    stripes = 403 + np.digitize(x + 0.5 * y, [-0.2, 0.3])
    return np.stack([tiles, discs, stripes])


NUM_REGIONS = 406


@pytest.mark.parametrize("cap", [None, 96])
@BROWN_LENSES
def test_imported_regions_are_on_the_correct_pixels(
    tmp_path: Path, rng: np.random.Generator, lens: Lens, cap: int | None
) -> None:
    """Borders are off by at most one pixel.

    With a cap the region map has the size of the photograph while the view is half as wide, as usual for LangSplat.
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
    # Regions are identified by their embeddings.
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
    # Rounding averages out along a border, so a shift by half a pixel is detected.
    for disc in (400, 401, 402):
        shift = np.argwhere(found[1] == disc).mean(axis=0) - np.argwhere(expected[1] == disc).mean(axis=0)
        assert np.abs(shift).max() < 0.3
