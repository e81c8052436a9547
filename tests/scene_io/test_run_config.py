"""Reading the config.yml of a run without instantiating the classes in it."""

from __future__ import annotations

import shlex
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion, method_configs
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.run_config import FRAME_SETTINGS, SPLIT_SETTINGS, read_run_config


def write_config(folder: Path, dataparser: Any, **model: Any) -> Path:
    """The config.yml of a stock splatfacto run."""
    config = deepcopy(method_configs["splatfacto"])
    config.data = config.pipeline.datamanager.data = folder / "scene"
    config.pipeline.datamanager.dataparser = dataparser
    for name, value in model.items():
        setattr(config.pipeline.model, name, value)
    path = folder / "config.yml"
    path.write_text(yaml.dump(config))
    return path


def test_the_settings_of_a_run_are_read(tmp_path: Path) -> None:
    path = write_config(tmp_path, NerfstudioDataParserConfig(scale_factor=2.0), rasterize_mode="antialiased")
    run = read_run_config(path)
    assert run.method == "splatfacto" and run.data == tmp_path / "scene"
    assert run.checkpoints == tmp_path / "nerfstudio_models"
    assert run.model["rasterize_mode"] == "antialiased" and run.camera_mode == "off"
    assert run.dataparser["scale_factor"] == 2.0


def test_code_in_a_config_is_not_run(tmp_path: Path) -> None:
    path = write_config(tmp_path, NerfstudioDataParserConfig())
    trap = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{tmp_path / 'trap'}']]"
    path.write_text(path.read_text().replace("prompt: null", f"prompt: {trap}"))
    read_run_config(path)
    assert not (tmp_path / "trap").exists()


def test_differences_of_dataparsers_are_detected(tmp_path: Path) -> None:
    usual = NerfstudioDataParserConfig()
    run = read_run_config(write_config(tmp_path, replace(usual, eval_mode="all", load_3D_points=True)))
    assert not run.differs(usual, FRAME_SETTINGS)
    assert run.differs(usual, SPLIT_SETTINGS)
    assert run.differs(ColmapDataParserConfig(), ())


@pytest.mark.parametrize(
    "dataparser",
    [
        NerfstudioDataParserConfig(),
        NerfstudioDataParserConfig(
            orientation_method="none",
            center_method="focus",
            auto_scale_poses=False,
            scale_factor=0.25,
            eval_mode="interval",
            downscale_factor=2,
            mask_color=(0.5, 0.25, 1.0),
        ),
        ColmapDataParserConfig(
            orientation_method="none",
            assume_colmap_world_coordinate_convention=False,
            colmap_path=Path("sparse/0"),
            images_path=Path("my pictures"),
        ),
    ],
)
def test_ns_train_parses_the_dataparser_arguments(tmp_path: Path, dataparser: Any) -> None:
    run = read_run_config(write_config(tmp_path, dataparser))
    words = ["splatfacto", "--data", str(tmp_path), *shlex.split(run.dataparser_words())]
    parsed = tyro.cli(AnnotatedBaseConfigUnion, args=words).pipeline.datamanager.dataparser
    assert type(parsed) is type(dataparser)
    assert replace(parsed, load_3D_points=True) == replace(dataparser, load_3D_points=True)


def test_a_dataparser_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = write_config(tmp_path, NerfstudioDataParserConfig())
    path.write_text(path.read_text().replace("NerfstudioDataParserConfig", "SomeonesDataParserConfig"))
    assert "SomeonesDataParserConfig" in read_run_config(path).dataparser_words()


@pytest.mark.parametrize("text", ["", "a: [", "method_name: splatfacto", "- 1\n- 2", "\x00", "pipeline: 3"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(GenLangSplatError, match=r"config\.yml cannot be read"):
        read_run_config(path)


@pytest.mark.parametrize("kind", ["WindowsPath", "_local.PosixPath"])
def test_a_config_of_another_system_has_the_same_settings(tmp_path: Path, kind: str) -> None:
    dataparser = ColmapDataParserConfig(colmap_path=Path("sparse/0"), images_path=Path("pictures"))
    path = write_config(tmp_path, dataparser)
    path.write_text(path.read_text().replace("pathlib.PosixPath", f"pathlib.{kind}"))
    run = read_run_config(path)
    assert run.checkpoints == tmp_path / "nerfstudio_models" and not run.differs(dataparser, ())
    assert run.dataparser["colmap_path"] == ["sparse", "0"] and "--images-path pictures" in run.dataparser_words()


def test_a_path_stored_as_one_part_is_split(tmp_path: Path) -> None:
    path = write_config(tmp_path, ColmapDataParserConfig(colmap_path=Path("sparse/0")))
    stored = "pathlib.PosixPath\n      - sparse\n      - '0'\n"
    assert stored in path.read_text()
    path.write_text(path.read_text().replace(stored, "pathlib._local.WindowsPath\n      - 'sparse\\0'\n"))
    assert read_run_config(path).dataparser["colmap_path"] == ["sparse", "0"]
