"""`gen-langsplat extract`: stores the features that training uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import extractor
from genlangsplat_ns.scene.extraction import extract_scene, open_views
from genlangsplat_ns.views.settings import ViewSettings
from tests.end_to_end.commands import gen_langsplat
from tests.end_to_end.conftest import make_config, make_trainer, training_views
from tests.end_to_end.quick_extraction import SETTINGS, all_features, rewrite, share_names, stored, views_of

pytestmark = pytest.mark.usefixtures("quick_encoder")


# Extraction


def test_every_view_is_stored(extracted: GenLangSplatDataManager) -> None:
    features = all_features(extracted)
    assert set(features) == {f"{number:04d}.png" for number in range(1, 11)}
    assert len(stored(extracted.store.folder)) == 10
    for view in features.values():
        assert view.regions.shape == (3, 96, 128)
        assert bool((view.regions >= 0).all()), "watershed leaves no pixel without a region"
        assert torch.allclose(view.embeddings.norm(dim=1), torch.ones(len(view.embeddings)), atol=2e-3)


def test_photographs_are_not_cached(extracted: GenLangSplatDataManager) -> None:
    """Extracting thousands of photographs must not need memory for all of them."""
    assert "cached_train" not in extracted.__dict__ and "cached_eval" not in extracted.__dict__


def test_preview_writes_one_sheet_per_view(extracted: GenLangSplatDataManager) -> None:
    sheets = sorted((extracted.store.folder / "preview").iterdir())
    assert sorted(sheet.stem[-4:] for sheet in sheets) == [f"{number:04d}" for number in range(1, 11)]
    assert all(Image.open(sheet).width == 4 * 128 for sheet in sheets)


def test_without_preview_no_sheets_are_written(scene: Path) -> None:
    views = views_of(scene)
    extract_scene(views, 1, preview=False)
    assert not (views.store.folder / "preview").exists()


def test_views_beyond_a_limit_can_be_extracted_later(scene: Path, extracted: GenLangSplatDataManager) -> None:
    extract_scene(views_of(scene), 3, preview=False)
    first = stored(scene)
    assert {key[:4] for key in first} == {"0001", "0002", "0004"}, "0003 is held out"
    extract_scene(views_of(scene), None, preview=False)
    every = stored(scene)
    assert every == stored(extracted.store.folder)
    assert first.items() <= every.items()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_without_views_is_refused(scene: Path, limit: int) -> None:
    with pytest.raises(GenLangSplatError, match=f"limit is {limit}"):
        extract_scene(views_of(scene), limit, preview=False)
    assert not stored(scene)


def test_a_second_run_loads_no_model(extracted: GenLangSplatDataManager, no_models: None) -> None:
    extract_scene(views_of(extracted.config.data), None, preview=False)


@pytest.mark.parametrize("cap", [None, 480, 64])
def test_training_finds_features_extracted_at_its_image_size(
    scene: Path, tmp_path: Path, cap: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lite method limits views to 480 pixels, which does not change the small test images; 64 halves them."""
    extract_scene(views_of(scene, cap), None, preview=False)
    before = stored(scene)
    for loader in ("load_encoder", "load_mask_generator"):
        monkeypatch.setattr(extractor, loader, lambda *args, **kwargs: pytest.fail("a model was loaded"))
    trained_on = training_views(scene, tmp_path / "outputs", cap)
    looked_at = [(split, index) for split in trained_on.splits for index in range(len(trained_on.dataset(split)))]
    keys = {trained_on.store.key(trained_on.view_name(*view), trained_on.image(*view)) for view in looked_at}
    assert keys == set(before)
    assert stored(scene) == before
    assert max(trained_on.language_features("train", 0).regions.shape) == (64 if cap == 64 else 128)


def test_another_image_size_is_stored_separately(scene: Path, tmp_path: Path) -> None:
    extract_scene(views_of(scene), None, preview=False)
    before = stored(scene)
    training_views(scene, tmp_path / "outputs", max_image_side=64)
    assert before.items() <= stored(scene).items()
    assert len(stored(scene)) == 20


def test_the_validation_split_is_extracted_if_the_test_split_differs(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(scene, val_filenames=["images/0003.png"], test_filenames=["images/0008.png"])
    extract_scene(views_of(scene), None, preview=False)
    monkeypatch.setattr(extractor, "load_encoder", lambda *args, **kwargs: pytest.fail("the encoder was loaded"))
    training_views(scene, tmp_path / "outputs")
    assert {key[:4] for key in stored(scene)} == {f"{number:04d}" for number in range(1, 11) if number != 8}


def test_omitted_levels_are_empty_and_stored_separately(extracted: GenLangSplatDataManager, scene: Path) -> None:
    """Without a level, the indices of regions change, but not their masks and embeddings."""
    views = views_of(scene, levels=("part", "whole"))
    extract_scene(views, 2, preview=False)
    assert views.store.folder.name != extracted.store.folder.name
    for index in range(2):
        some, every = views.language_features("train", index), extracted.language_features("train", index)
        assert bool((some.regions[0] == -1).all())
        assert torch.equal(some.embeddings[some.regions[1:].long()], every.embeddings[every.regions[1:].long()])


def test_no_level_at_all_is_refused(scene: Path) -> None:
    with pytest.raises(GenLangSplatError, match="No level"):
        extract_scene(views_of(scene, levels=()), None, preview=False)


def test_a_format_has_a_short_and_a_full_name(scene: Path) -> None:
    short, full = (
        open_views(ViewSettings(data=scene, data_format=name), SETTINGS) for name in ("nerfstudio", "nerfstudio-data")
    )
    assert short.train_dataset.image_filenames == full.train_dataset.image_filenames


def test_the_error_about_an_unknown_format_lists_the_known_ones(scene: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"no data format 'polaroid'.*nerfstudio-data.*colmap"):
        open_views(ViewSettings(data=scene, data_format="polaroid"), SETTINGS)


def test_views_with_the_same_name_have_separate_features_and_sheets(scene: Path) -> None:
    share_names(scene)
    views = views_of(scene)
    extract_scene(views, None, preview=True)
    assert len(stored(scene)) == 10
    assert len(list((views.store.folder / "preview").iterdir())) == 10


def test_a_run_stores_the_choice_of_auto(scene: Path, tmp_path: Path) -> None:
    """A run opened on another machine must not look for other features there."""
    config = make_config(scene, tmp_path / "outputs")
    assert (config.pipeline.datamanager.encoder, config.pipeline.datamanager.masks) == ("auto", "auto")
    chosen = make_trainer(config).pipeline.datamanager.extractor
    (path,) = (tmp_path / "outputs").rglob("config.yml")
    saved = yaml.load(path.read_text(), Loader=yaml.Loader).pipeline.datamanager
    assert (saved.encoder, saved.masks) == (chosen.encoder_name, chosen.mask_name)
    assert "auto" not in (saved.encoder, saved.masks)


def crop_two(scene: Path) -> None:
    """Crops the first image to a wide and the second to a high format; every frame gets its own camera."""
    transforms = json.loads((scene / "transforms.json").read_text())
    shared = {key: transforms.pop(key) for key in ("w", "h", "fl_x", "fl_y", "cx", "cy")}
    for frame, size in zip(transforms["frames"], [(56, 40), (40, 48)] + [None] * 8, strict=True):
        frame.update(shared)
        if size is not None:
            with Image.open(scene / frame["file_path"]) as picture:
                cropped = picture.crop((0, 0, *size))
            cropped.save(scene / frame["file_path"])
            frame.update({"w": size[0], "h": size[1]})
    (scene / "transforms.json").write_text(json.dumps(transforms))


def test_the_command_extracts_images_of_mixed_sizes(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crop_two(scene)
    chosen = ("--encoder", "conse", "--masks", "watershed")
    gen_langsplat("extract", "--data", scene, "--limit", "2", "--preview", *chosen)
    output = capsys.readouterr().out
    files = sorted(scene.rglob("*.safetensors"))
    assert [path.stem[:4] for path in files] == ["0001", "0002"]
    assert str(files[0].parent) in "".join(output.split()), "long lines are wrapped"
    assert "Traceback" not in output
    assert len(list((files[0].parent / "preview").iterdir())) == 2
    views = views_of(scene)
    shapes = [views.language_features("train", index).regions.shape for index in range(2)]
    assert shapes == [(3, 40, 56), (3, 48, 40)]


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "cannot be read as JSON"), ('{"frames": []}', '"frames"'), ("{}", '"frames"')]
)
def test_unreadable_cameras_are_reported(scene: Path, content: str, problem: str) -> None:
    (scene / "transforms.json").write_text(content)
    with pytest.raises(GenLangSplatError, match=f"transforms.json.*{problem}"):
        open_views(ViewSettings(data=scene), SETTINGS)


@pytest.mark.parametrize("side", [0, -3])
def test_a_side_without_pixels_is_refused(scene: Path, side: int) -> None:
    with pytest.raises(GenLangSplatError, match=f"{side} pixels"):
        open_views(ViewSettings(data=scene, max_image_side=side), SETTINGS)
