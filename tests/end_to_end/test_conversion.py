"""`gen-langsplat convert`: import and export of LangSplat's files."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from torch import Tensor

from genlangsplat_ns.commands.convert import Convert
from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.dataparser import choose_parser
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.features.store import ViewFeatures
from genlangsplat_ns.scene.extraction import export_langsplat, open_views, training_command
from genlangsplat_ns.views.settings import ParserSettings, ViewSettings
from tests.end_to_end.conftest import training_views
from tests.end_to_end.quick_extraction import all_features, rewrite, share_names, stored, views_of
from tests.views.scene_files import write_colmap, write_pictures

pytestmark = pytest.mark.usefixtures("quick_encoder")


def convert(
    data: Path, max_image_side: int | None = None, encoder: Any = "auto", masks: Any = "auto", **flags: Any
) -> None:
    """Runs the command."""
    features = FeatureSettings(encoder=encoder, masks=masks)
    Convert(views=ViewSettings(data=data, max_image_side=max_image_side), features=features, **flags)()


def per_pixel(features: ViewFeatures) -> Tensor:
    """The embedding of every pixel and level, zero where there is no region."""
    known = features.regions >= 0
    return features.embeddings[features.regions.clamp(min=0).long()] * known[..., None]


def test_features_survive_export_and_import(extracted: GenLangSplatDataManager, scene: Path, tmp_path: Path) -> None:
    langsplat_folder = tmp_path / "langsplat_folder"
    convert(data=extracted.config.data, to_langsplat=langsplat_folder, encoder="conse", masks="watershed")
    assert len(list(langsplat_folder.iterdir())) == 20
    for name in ("0001", "0010"):
        maps, rows = np.load(langsplat_folder / f"{name}_s.npy"), np.load(langsplat_folder / f"{name}_f.npy")
        assert maps.shape == (4, 96, 128) and maps.dtype == rows.dtype == np.float32
        assert rows.shape == (int(maps.max()) + 1, 384)
    convert(data=scene, from_langsplat=langsplat_folder, encoder="conse")
    before, after = all_features(extracted), all_features(views_of(scene, masks="langsplat"))
    assert before.keys() == after.keys()
    for name, features in before.items():
        assert torch.equal(features.regions >= 0, after[name].regions >= 0)
        assert torch.allclose(per_pixel(features), per_pixel(after[name]), atol=2e-4)


@pytest.fixture(scope="module")
def langsplat_folder(extracted: GenLangSplatDataManager, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of the scene in LangSplat's files."""
    folder = tmp_path_factory.mktemp("langsplat_folder")
    export_langsplat(extracted, folder)
    return folder


@pytest.mark.parametrize("cap", [480, 64])
def test_training_finds_converted_features_and_extracts_nothing(
    scene: Path, langsplat_folder: Path, extracted: GenLangSplatDataManager, tmp_path: Path, no_models: None, cap: int
) -> None:
    """Maps at the size of the photographs also fit downscaled views, whose pixels take the nearest region."""
    convert(data=scene, from_langsplat=langsplat_folder, encoder="conse", max_image_side=cap)
    before = stored(scene)
    assert len(before) == 10
    trained_on = training_views(scene, tmp_path / "outputs", cap, masks="langsplat")
    assert stored(scene) == before
    expected = per_pixel(extracted.language_features("train", 0))
    if cap == 64:
        expected = expected[:, 1::2, 1::2]
    assert torch.allclose(per_pixel(trained_on.language_features("train", 0)), expected, atol=2e-4)


def test_the_error_about_missing_features_names_the_command(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="gen-langsplat convert"):
        training_views(scene, tmp_path / "outputs", masks="langsplat")


def test_the_error_names_a_view_without_langsplat_files(scene: Path, langsplat_folder: Path, tmp_path: Path) -> None:
    some = Path(shutil.copytree(langsplat_folder, tmp_path / "some"))
    (some / "0004_s.npy").unlink()
    with pytest.raises(GenLangSplatError, match=r"0004_s\.npy"):
        convert(data=scene, from_langsplat=some, encoder="conse")
    assert not (scene / "language_features").exists()


@pytest.mark.parametrize("folders", [{}, {"from_langsplat": Path("a"), "to_langsplat": Path("b")}])
def test_exactly_one_direction_must_be_given(scene: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(GenLangSplatError, match=r"either --from-langsplat FOLDER or --to-langsplat FOLDER"):
        convert(data=scene, **folders)
    assert not (scene / "language_features").exists()


def test_files_of_one_name_for_several_photographs_are_not_imported(
    scene: Path, langsplat_folder: Path, tmp_path: Path
) -> None:
    """LangSplat's file names contain only the name of the photograph, so the files would be confused."""
    share_names(scene)
    for number in range(5):
        for kind in "fs":
            shutil.copy(langsplat_folder / f"000{number + 1}_{kind}.npy", tmp_path / f"{number}_{kind}.npy")
    with pytest.raises(GenLangSplatError, match=r"left/0\.png and right/0\.png .* unique names"):
        convert(data=scene, from_langsplat=tmp_path, encoder="conse")
    assert not (scene / "language_features").exists()


def test_photographs_of_one_name_are_converted_in_their_folders(scene: Path, tmp_path: Path) -> None:
    share_names(scene)
    convert(data=scene, to_langsplat=tmp_path / "files", encoder="conse", masks="watershed")
    assert {path.relative_to(tmp_path / "files").as_posix() for path in (tmp_path / "files").rglob("*_s.npy")} == {
        f"{folder}/{number}_s.npy" for folder in ("left", "right") for number in range(5)
    }
    convert(data=scene, from_langsplat=tmp_path / "files", encoder="conse")
    written, read = (views_of(scene, masks=masks) for masks in ("watershed", "langsplat"))
    for view in written.all_views():
        before, after = written.language_features(*view), read.language_features(*view)
        assert torch.allclose(per_pixel(before), per_pixel(after), atol=2e-4)


def test_a_view_in_both_splits_is_converted(scene: Path, langsplat_folder: Path, tmp_path: Path) -> None:
    every = [f"images/{number:04d}.png" for number in range(1, 11)]
    rewrite(scene, train_filenames=every, val_filenames=every, test_filenames=every)
    convert(data=scene, from_langsplat=langsplat_folder, encoder="conse")
    convert(data=scene, to_langsplat=tmp_path / "ours", encoder="conse", masks="langsplat")
    assert len(list((tmp_path / "ours").iterdir())) == 20


def test_existing_files_are_replaced_only_with_overwrite(extracted: GenLangSplatDataManager, tmp_path: Path) -> None:
    own = tmp_path / f"{Path(extracted.view_name('train', 0)).stem}_f.npy"
    own.write_bytes(b"LangSplat's own")
    with pytest.raises(GenLangSplatError, match="--overwrite"):
        export_langsplat(extracted, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [own.name]
    export_langsplat(extracted, tmp_path, overwrite=True)
    assert own.read_bytes() != b"LangSplat's own"


def test_the_training_command_has_the_settings_of_the_features(scene: Path) -> None:
    features = FeatureSettings(encoder="conse", masks="langsplat", levels=("part", "whole"))
    views = open_views(ViewSettings(data=scene, max_image_side=64), features)
    assert training_command(views) == (
        f"ns-train gen-langsplat --data {scene} --pipeline.datamanager.encoder conse "
        "--pipeline.datamanager.masks langsplat --pipeline.datamanager.levels part whole "
        "--pipeline.datamanager.max-image-side 64"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [(ParserSettings(), ""), (ParserSettings(eval_interval=4), " colmap --eval-interval 4 --colmap-path sparse/0")],
)
def test_the_training_command_can_be_pasted(tmp_path: Path, settings: ParserSettings, words: str) -> None:
    """Paths with spaces are quoted, and the format is named where it is not recognized without options."""
    scene = tmp_path / "my scene"
    write_pictures(scene / "images", ["a.png", "b.png"])
    write_colmap(scene / "sparse/0", ["a.png", "b.png"])
    views = open_views(ViewSettings(data=scene, parser=settings), FeatureSettings(encoder="conse", masks="langsplat"))
    command = training_command(views)
    assert command == (
        f"ns-train gen-langsplat --data '{scene}' --pipeline.datamanager.encoder conse "
        f"--pipeline.datamanager.masks langsplat{words}"
    )
    assert shlex.split(command)[3] == str(scene)
    # The options of a format are the same for all methods.
    parsed = tyro.cli(AnnotatedBaseConfigUnion, args=["splatfacto", *words.split()])
    assert choose_parser(replace(parsed.pipeline.datamanager.dataparser, data=scene)) == views.config.dataparser
