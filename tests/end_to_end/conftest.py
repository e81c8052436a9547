"""A small posed scene and short runs on it, shared by the end-to-end tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from genlangsplat_ns.commands.lift import Lift
from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery
from genlangsplat_ns.features import extractor
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.extraction import extract_scene, open_views
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from genlangsplat_ns.utils.ray import RaySettings
from genlangsplat_ns.views.settings import ViewSettings
from tests.end_to_end.quick_extraction import SETTINGS, ColorEncoder

EXAMPLES = Path(__file__).parents[2] / "examples"

RGB_STEPS = 40
"""Number of RGB steps after which parameters have changed."""

LEARNING_STEPS = 150
"""Number of RGB steps after which renders show the scene."""


def made_once(name: str, make: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the first worker process makes and all of them read."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            make(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def tiny_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery scene with ten small views and their features; tests must not modify it."""

    def make(folder: Path) -> None:
        build_gallery(folder / "scene", GallerySettings(num_views=10, width=128, height=96, num_points=1500))
        training_views(folder / "scene", folder / "outputs")

    return made_once("gallery", make, tmp_path_factory) / "scene"


@pytest.fixture(scope="session")
def example_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scene and run on which the examples work, trained enough to answer; tests only add files."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(EXAMPLES))
            import_module("gallery_run").gallery_run(folder)

    return made_once("gallery-run", make, tmp_path_factory)


def copy_scene(scene: Path, folder: Path) -> Path:
    """A copy of a scene without its features, which tests may modify."""
    return Path(shutil.copytree(scene, folder / "scene", ignore=shutil.ignore_patterns("language_features")))


def make_config(data: Path, output: Path, rgb_steps: int = RGB_STEPS, **model: Any) -> Any:
    """The lite method, shortened."""
    from genlangsplat_ns.config import gen_langsplat_lite

    config = deepcopy(gen_langsplat_lite.config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir = output
    config.experiment_name = "tiny"
    config.timestamp = "run"
    config.vis = "tensorboard"
    config.max_num_iterations = rgb_steps + 1
    config.steps_per_save = 10_000
    config.steps_per_eval_image = config.steps_per_eval_all_images = 10_000
    for name, value in {"warmup_length": 10, "refine_every": 10, "resolution_schedule": 20, **model}.items():
        setattr(config.pipeline.model, name, value)
    return config


def training_views(data: Path, output: Path, max_image_side: int | None = 480, **settings: Any) -> Any:
    """The datamanager of a training run, which extracts missing features."""
    config = make_config(data, output).pipeline.datamanager
    config.max_image_side = max_image_side
    for name, value in {**vars(SETTINGS), **settings}.items():
        setattr(config, name, value)
    views = config.setup(device="cpu", test_mode="val", extractor=FeatureExtractor(config, "cpu"))
    views.prepare_language()
    return views


def make_trainer(config: Any) -> Any:
    """Seeds and sets up a trainer like ns-train."""
    torch.manual_seed(0)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def train(config: Any) -> Any:
    """Trains in this process and returns the trainer."""
    trainer = make_trainer(config)
    trainer.train()
    return trainer


def lift(config_path: Path, robust_rounds: int | None = None, ray: RaySettings | None = None) -> Path:
    """Runs gen-langsplat lift and returns the new checkpoint."""
    engine: Any = "local" if ray is None else "ray"
    Lift(load_config=config_path, robust_rounds=robust_rounds, engine=engine, ray=ray or RaySettings())()
    checkpoint = latest_checkpoint(config_path.parent / "nerfstudio_models")
    assert checkpoint is not None
    return checkpoint


@pytest.fixture(scope="session")
def tiny_run(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageScene:
    """A finished run on the tiny scene; tests must not modify it."""

    def make(folder: Path) -> None:
        train(make_config(tiny_scene, folder, rgb_steps=LEARNING_STEPS))

    (config,) = made_once("finished", make, tmp_path_factory).rglob("config.yml")
    return open_run(config)


@pytest.fixture(scope="module")
def quick_encoder() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "load_encoder", lambda *args, **kwargs: ColorEncoder())
        yield


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a test fail if it loads any model."""
    for loader in ("load_encoder", "load_mask_generator"):
        monkeypatch.setattr(extractor, loader, lambda *args, name=loader, **kwargs: pytest.fail(f"{name} was called"))


@pytest.fixture
def scene(tiny_scene: Path, tmp_path: Path) -> Path:
    """The tiny scene without features."""
    return copy_scene(tiny_scene, tmp_path)


@pytest.fixture(scope="module")
def extracted(
    tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory, quick_encoder: None
) -> GenLangSplatDataManager:
    """A scene with features and previews of all views; tests must not modify it."""
    scene = copy_scene(tiny_scene, tmp_path_factory.mktemp("extracted"))
    views = open_views(ViewSettings(data=scene), SETTINGS)
    extract_scene(views, None, preview=True)
    return views
