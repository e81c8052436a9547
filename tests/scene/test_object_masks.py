"""Masks of a text, with which programs train on one object alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genlangsplat_ns.commands.query import Query
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.object_masks import mask_files, write_object_masks
from genlangsplat_ns.scene.settings import CameraSettings
from genlangsplat_ns.views.masked_transforms import write_masked_transforms
from genlangsplat_ns.views.transforms_file import read_transforms
from tests.scene.language_scenes import NamedDirections, two_clouds
from tests.views.scene_files import write_pictures, write_transforms
from tests.views.view_scenes import open_scene, pinhole, write_scene

SIZE = (48, 32)
BENT = {"k1": -0.2, "k2": 0.03, "p1": 0.004, "p2": 0.0}


def photographed(folder: Path, lens: dict[str, float] | None = None, names: tuple[str, ...] = ("a.jpg",)) -> Path:
    """A scene of gray photographs that see both clouds."""
    (folder / "images").mkdir(parents=True)
    pose = np.eye(4)
    pose[2, 3] = 3.0
    frames = {}
    for number, name in enumerate(names):
        Image.new("RGB", SIZE, (90, 90, 90)).save(folder / "images" / name)
        moved = pose + np.eye(4, k=3) * 0.1 * number
        frames[name] = {**pinhole(SIZE), **(lens or {}), "transform_matrix": moved.tolist()}
    return write_scene(folder, frames)


def opened(folder: Path) -> LanguageScene:
    """The photographs with the model of the two clouds, in the frame of the views."""
    model, datamanager = two_clouds(), open_scene(folder)
    frame = datamanager.frame.matrix
    with torch.no_grad():
        model.means.data = (model.means.double() @ frame[:3, :3].T + frame[:3, 3]).float()
        model.scales.data += float(np.log(datamanager.frame.scale))
    encoder = NamedDirections(model)
    datamanager.extractor.load_text_encoder = lambda: encoder
    model.step = 10_000
    return LanguageScene(model, datamanager)


def read(path: Path) -> np.ndarray:
    """The pixels of a mask, of which all are black or white."""
    pixels = np.asarray(Image.open(path))
    assert set(np.unique(pixels)) <= {0, 255} and pixels.ndim == 2
    return pixels > 0


def test_the_mask_is_white_where_the_text_is(tmp_path: Path) -> None:
    scene = opened(photographed(tmp_path / "scene"))
    write_object_masks(scene, TextQuery(("left",)), tmp_path / "out", split="train")
    left = read(tmp_path / "out" / "masks" / "a.png")
    assert left.shape == SIZE[::-1]
    assert left[:, :20].mean() > 5 * left[:, 28:].mean() and left.mean() > 0.05
    write_object_masks(scene, TextQuery(("left", "right")), tmp_path / "both", split="train")
    both = read(tmp_path / "both" / "masks" / "a.png")
    assert (both | ~left).all() and both[:, 28:].mean() > 0.05


def test_training_data_with_the_masks_keep_the_object(tmp_path: Path) -> None:
    """The written scene is opened as training opens it, and its views count where the text was found."""
    scene = opened(photographed(tmp_path / "scene", BENT, ("a.jpg", "b.jpg")))
    write_object_masks(scene, TextQuery(("left",)), tmp_path / "out")
    written = open_scene(tmp_path / "out" / "transforms_masked.json")
    assert written.train_dataset.mask_filenames == [tmp_path / "out" / "masks" / f"{name}.png" for name in "ab"]
    for index, view in enumerate(scene.views("train")):
        answer = scene.ask("left", view).mask.numpy()
        kept = written.mask("train", index)
        assert kept is not None
        overlap = (kept.numpy() & answer).sum() / (kept.numpy() | answer).sum()
        assert overlap > 0.8
        assert torch.equal(written.image("train", index), scene.image(view))


@pytest.mark.parametrize("factor", [1, 2])
def test_masks_have_the_size_and_lens_of_the_photograph(factor: int, tmp_path: Path) -> None:
    folder = photographed(tmp_path / "scene", {**BENT, **{"k1": -0.3}})
    if factor == 2:
        big = Image.new("RGB", (SIZE[0] * 40, SIZE[1] * 40))
        big.save(folder / "images" / "a.jpg")
        (folder / "images_2").mkdir()
        big.resize((SIZE[0] * 20, SIZE[1] * 20)).save(folder / "images_2" / "a.jpg")
        document = json.loads((folder / "transforms.json").read_text())
        document["frames"][0] |= pinhole(big.size)
        (folder / "transforms.json").write_text(json.dumps(document))
    data = open_scene(folder)
    raw_width, raw_height = data.raw_size("train", 0)
    disk = np.hypot(*(np.indices((raw_height, raw_width)) - np.array([[[raw_height]], [[raw_width]]]) / 2))
    disk = disk < 0.3 * raw_height
    back = data.photograph_mask("train", 0, data.undistort_mask("train", 0, disk))
    assert back.shape == ((1280, 1920) if factor == 2 else SIZE[::-1])
    expected = np.asarray(Image.fromarray(disk).resize(back.shape[::-1], Image.Resampling.NEAREST))
    assert (back != expected).mean() < 0.02
    assert data.photograph("train", 0) == folder / "images" / "a.jpg"


def test_masks_of_listed_copies_have_their_size(tmp_path: Path) -> None:
    """A scene may list pictures in images_2 itself, beside larger ones that are not used."""
    folder = photographed(tmp_path / "scene")
    (folder / "images").rename(folder / "images_2")
    (folder / "images").mkdir()
    Image.new("RGB", (2 * SIZE[0], 2 * SIZE[1])).save(folder / "images" / "a.jpg")
    text = (folder / "transforms.json").read_text()
    (folder / "transforms.json").write_text(text.replace("images/a.jpg", "images_2/a.jpg"))
    write_object_masks(opened(folder), TextQuery(("left",)), tmp_path / "out", split="train")
    assert read(tmp_path / "out" / "masks" / "a.png").shape == SIZE[::-1]
    (frame,) = json.loads((tmp_path / "out" / "transforms_masked.json").read_text())["frames"]
    assert frame["file_path"] == str(folder / "images_2" / "a.jpg")


def test_photographs_of_copies_in_any_layout_are_known(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    big = (SIZE[0] * 40, SIZE[1] * 40)
    write_pictures(folder / "images", ["left/a.jpg", "right/b.jpg"], big)
    write_pictures(folder / "images_2", ["a.jpg", "b.jpg"], (big[0] // 2, big[1] // 2))
    write_transforms(folder, ["images/left/a.jpg", "images/right/b.jpg"], frame=pinhole(big))
    data = open_scene(folder)
    assert data.raw_size("train", 0)[0] == big[0] // 2
    assert data.photograph("train", 0) == folder / "images/left/a.jpg"


def test_the_copy_keeps_splits_and_the_transform_of_the_poses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_transforms(tmp_path / "scene", ["images/a.jpg", "images/b.jpg", "images/c.jpg"])
    write_pictures(folder / "images", ["a.jpg", "b.jpg", "c.jpg"])
    document = json.loads((folder / "transforms.json").read_text())
    # The names of a split may be spelled in another way.
    document |= {"train_filenames": ["a.jpg", "./images/c.jpg"], "val_filenames": ["images/b.jpg"]}
    (folder / "transforms.json").write_text(json.dumps(document))
    (folder / "colmap/sparse/0").mkdir(parents=True)
    masks = {folder / f"images/{name}.jpg": f"masks/{name}.png" for name in "ab"}
    assert write_masked_transforms(folder / "transforms.json", tmp_path / "copy.json", masks) == 2
    copy = json.loads((tmp_path / "copy.json").read_text())
    assert copy["train_filenames"] == [str(folder / "images/a.jpg")]
    assert copy["val_filenames"] == [str(folder / "images/b.jpg")]
    before, after = (read_transforms(path) for path in (folder / "transforms.json", tmp_path / "copy.json"))
    assert np.array_equal(before.applied_transform, after.applied_transform)
    assert "copy.json names no seed points" in caplog.text


def test_pixels_that_the_data_mask_stay_black(tmp_path: Path) -> None:
    folder = photographed(tmp_path / "scene")
    mask = np.full(SIZE[::-1], 255, np.uint8)
    mask[:16] = 0
    Image.fromarray(mask).save(folder / "top.png")
    document = json.loads((folder / "transforms.json").read_text())
    document["frames"][0]["mask_path"] = "top.png"
    (folder / "transforms.json").write_text(json.dumps(document))
    write_object_masks(opened(folder), TextQuery(("left",)), tmp_path / "out", split="train")
    pixels = read(tmp_path / "out" / "masks" / "a.png")
    assert not pixels[:16].any() and pixels[16:].any()


def test_masks_are_named_for_the_programs_that_read_them() -> None:
    views = ["left/1.jpg", "right/1.jpg"]
    assert mask_files(views, "stem") == ["left/1.png", "right/1.png"]
    assert mask_files(views, "full") == ["left/1.jpg.png", "right/1.jpg.png"]
    with pytest.raises(GenLangSplatError, match=r"1\.jpg and 1\.png would have the same mask.*--mask-names full"):
        mask_files(["1.jpg", "1.png"], "stem")
    assert mask_files(["1.jpg", "1.png"], "full") == ["1.jpg.png", "1.png.png"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"video": True}, "masks belong to photographs"),
        ({"cameras": CameraSettings(interpolate=3)}, "masks belong to photographs"),
        ({"text": ("a thing that is not there",)}, "No Gaussian is selected"),
    ],
)
def test_errors_leave_no_mask(
    flags: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = opened(photographed(tmp_path / "scene"))
    monkeypatch.setattr(Query, "open", lambda self, photographs=False: scene)
    values = {"text": ("left",), **flags}
    with pytest.raises(GenLangSplatError, match=message):
        Query(load_config=Path("config.yml"), output_dir=tmp_path / "out", masks_only=True, **values)()
    assert not list((tmp_path / "out").rglob("*.*"))


def test_existing_masks_are_kept(tmp_path: Path) -> None:
    scene = opened(photographed(tmp_path / "scene"))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_text("kept")
    with pytest.raises(GenLangSplatError, match=r"exists.*--overwrite"):
        write_object_masks(scene, TextQuery(("left",)), tmp_path, split="train")
    assert (tmp_path / "masks" / "a.png").read_text() == "kept"
    write_object_masks(scene, TextQuery(("left",)), tmp_path, split="train", overwrite=True)
    assert read(tmp_path / "masks" / "a.png").any()
