"""Which pixels of a view count: mask files, opacity and lenses, for colors and for language."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.dataset import ViewDataset
from tests.views.view_scenes import ImageType, open_scene, pinhole, ramp, scene_of, write_scene

SIZE = (64, 48)
FISHEYE = {"camera_model": "OPENCV_FISHEYE", **{f"k{number}": 0.0 for number in (1, 2, 3, 4)}}
KEPT = np.ones((48, 64), bool)
KEPT[30:, 20:50] = False
OPACITY = np.full((48, 64), 255, np.uint8)
OPACITY[:, :9] = 0
OPACITY[:, 9] = 1


def masked_scene(
    folder: Path,
    mask: np.ndarray | None = None,
    opacity: np.ndarray | None = None,
    lens: dict[str, Any] | None = None,
    count: int = 1,
    **settings: Any,
) -> GenLangSplatDataManager:
    """Opens a scene of photographs with a mask file, an opacity, or both."""
    pixels = ramp(SIZE, 3)
    if opacity is not None:
        pixels = np.dstack([pixels, opacity])
    frames = {}
    for number in range(count):
        name = f"{number}.png"
        for place, content in (("images", pixels), ("masks", mask)):
            (folder / place).mkdir(exist_ok=True)
            if content is not None:
                Image.fromarray(content.astype(np.uint8) * (255 if place == "masks" else 1)).save(folder / place / name)
        frames[name] = {} if mask is None else {"mask_path": f"masks/{name}"}
    return open_scene(write_scene(folder, frames, **pinhole(SIZE) | (lens or {})), **settings)


def kept(views: GenLangSplatDataManager, split: Any = "train") -> np.ndarray | None:
    """The mask of the first view, which is the same before and after caching."""
    before = views.mask(split, 0)
    after = views.cached_train[0].get("language_mask") if split == "train" else before
    assert (before is None and after is None) or torch.equal(before, after)
    return None if before is None else before.numpy()


@pytest.mark.parametrize("image_type", ["uint8", "float32"])
def test_a_mask_file_counts_for_colors_and_for_language(tmp_path: Path, image_type: ImageType) -> None:
    views = masked_scene(tmp_path, mask=KEPT, image_type=image_type)
    assert np.array_equal(kept(views), KEPT) and np.array_equal(kept(views, "eval"), KEPT)
    assert np.array_equal(views.cached_train[0]["mask"][..., 0].numpy(), KEPT)
    assert np.array_equal(views.train_dataset[0]["mask"][..., 0].numpy(), KEPT)


@pytest.mark.parametrize("image_type", ["uint8", "float32"])
def test_transparent_pixels_count_for_colors_alone(tmp_path: Path, image_type: ImageType) -> None:
    """Splatfacto composites them with the background. Pixels with any opacity count."""
    views = masked_scene(tmp_path, opacity=OPACITY, image_type=image_type)
    assert np.array_equal(kept(views), OPACITY > 0)
    assert "mask" not in views.cached_train[0] and views.cached_train[0]["image"].shape[2] == 4
    assert views.image("train", 0).shape[2] == 3


def test_mask_and_opacity_count_together(tmp_path: Path) -> None:
    views = masked_scene(tmp_path, mask=KEPT, opacity=OPACITY)
    assert np.array_equal(kept(views), KEPT & (OPACITY > 0))
    assert np.array_equal(views.cached_train[0]["mask"][..., 0].numpy(), KEPT)


def test_opacity_counts_where_the_data_has_a_background_color(tmp_path: Path) -> None:
    views = masked_scene(tmp_path, opacity=OPACITY)
    outputs = replace(views.train_dataparser_outputs, alpha_color=torch.tensor([1.0, 0.5, 0.0]))
    for image_type in ("uint8", "float32"):
        view = ViewDataset(outputs).undistorted(0, image_type)
        assert view.image.shape[2] == 3
        assert (view.rgb[:, :9].numpy() == [255, 127 + (image_type == "float32"), 0]).all()
        assert view.color_mask is None
        assert np.array_equal(view.language_mask.numpy(), OPACITY > 0)


def test_masks_that_keep_all_pixels_are_no_masks(tmp_path: Path) -> None:
    views = masked_scene(tmp_path, mask=np.ones_like(KEPT), opacity=np.full_like(OPACITY, 7))
    assert kept(views) is None and "mask" not in views.cached_train[0]
    assert not views.has_masked_pixels("train")


def test_a_view_may_have_no_mask(tmp_path: Path) -> None:
    views = masked_scene(tmp_path, mask=KEPT, count=2)
    outputs = replace(views.train_dataparser_outputs, mask_filenames=[None, tmp_path / "masks" / "1.png"])
    dataset = ViewDataset(outputs)
    dataset.check()
    assert dataset.undistorted(0, "uint8").language_mask is None
    assert np.array_equal(dataset.undistorted(1, "uint8").language_mask.numpy(), KEPT)


@pytest.mark.parametrize("cap", [32, 41])
def test_masks_are_scaled_with_the_photographs(tmp_path: Path, cap: int) -> None:
    views = masked_scene(tmp_path, mask=KEPT, max_image_side=cap)
    image = views.image("train", 0)
    mask = kept(views)
    assert mask is not None and mask.shape == tuple(image.shape[:2]) and mask.shape[1] == cap
    assert mask.mean() == pytest.approx(KEPT.mean(), abs=0.03)


def test_the_masks_of_a_fisheye_lens_are_undistorted_with_its_photographs(tmp_path: Path) -> None:
    """Masked pixels are black here, and no black pixel counts."""
    folder = tmp_path / "scene"
    folder.mkdir()
    views = masked_scene(folder, mask=KEPT, lens=FISHEYE)
    pixels = np.where(KEPT[..., None], 200, 0).astype(np.uint8).repeat(3, axis=2)
    Image.fromarray(pixels).save(folder / "images" / "0.png")
    mask, image = kept(views), views.image("train", 0).numpy()
    assert mask is not None and (image[mask] == 200).all()
    assert 0.5 < mask.mean() < 0.95 and not np.array_equal(mask, KEPT)
    assert int(views.camera("train", 0).camera_type) == 1
    assert np.array_equal(views.cached_train[0]["mask"][..., 0].numpy(), mask)


@pytest.mark.parametrize("name", ["0.png.png", "0.jpg"])
def test_a_mask_with_the_other_common_name_is_found(tmp_path: Path, name: str) -> None:
    masked_scene(tmp_path, mask=KEPT)
    (tmp_path / "masks" / "0.png").unlink()
    Image.fromarray(KEPT.astype(np.uint8) * 255).save(tmp_path / "masks" / name)
    views = open_scene(tmp_path)
    assert np.array_equal(kept(views), KEPT)


def test_a_mask_is_checked_when_the_scene_is_opened(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"0\.png has 64x64 pixels.*64x48"):
        masked_scene(tmp_path, mask=np.ones((64, 64), bool))


def test_a_lens_is_checked_when_the_scene_is_opened(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="too wide"):
        masked_scene(tmp_path, lens={**FISHEYE, "fl_x": 20.0, "fl_y": 20.0})


@pytest.mark.parametrize(("masked", "measured"), [((1,), [0]), ((0,), [1]), ((0, 1), [0, 1])])
def test_held_out_views_without_a_kept_pixel_are_not_measured(
    tmp_path: Path, masked: tuple[int, ...], measured: list[int]
) -> None:
    """Unless there are no others."""
    masked_scene(tmp_path, mask=KEPT, count=2)
    for number in masked:
        Image.new("L", SIZE).save(tmp_path / "masks" / f"{number}.png")
    path = tmp_path / "transforms.json"
    transforms = json.loads(path.read_text())
    lists = {f"{split}_filenames": transforms["train_filenames"] for split in ("val", "test")}
    path.write_text(json.dumps({**transforms, **lists}))
    views = open_scene(tmp_path)
    assert [batch["image_idx"] for _, batch in views.fixed_indices_eval_dataloader] == measured


@pytest.mark.parametrize("off", [(1, 0), (-1, 1), (0, -1)])
def test_a_photograph_one_pixel_off_is_resized_to_its_camera(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, off: tuple[int, int]
) -> None:
    size = (SIZE[0] + off[0], SIZE[1] + off[1])
    with caplog.at_level(logging.INFO):
        views = scene_of(tmp_path, Image.fromarray(ramp(size, 3)), camera_size=SIZE)
        image = views.image("train", 0).numpy()
        _ = views.cached_train, views.cached_eval
    assert image.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(image.astype(int) - ramp(SIZE, 3)).max() <= 4
    assert caplog.text.count("resized to the size of their cameras") == 1


def test_a_photograph_two_pixels_off_is_refused(tmp_path: Path) -> None:
    views = scene_of(tmp_path, Image.fromarray(ramp((66, 48), 3)), camera_size=SIZE)
    with pytest.raises(GenLangSplatError, match="66x48 pixels, but its camera has 64x48"):
        views.image("train", 0)
