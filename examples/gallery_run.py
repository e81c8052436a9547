"""The run on which all examples work: a small version of the demo's gallery, trained once in less than a minute."""

from __future__ import annotations

from pathlib import Path

from genlangsplat_ns import open_run
from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery
from genlangsplat_ns.demo.training import train_gallery
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView

SETTINGS = GallerySettings(num_views=15, width=240, height=180, num_points=8_000)
"""Fewer and smaller views than in `make demo`."""

RGB_STEPS = 600
"""Few steps: enough for answers, too few for sharp pictures."""

DEFAULT_FOLDER = Path("gallery-run")
"""Folder of scene and run, if an example gets no other with `--run`."""


def gallery_scene(folder: Path) -> Path:
    """Returns the photographs, cameras and labels of the gallery, which are built at the first call."""
    scene = folder / "scene"
    if not (scene / "transforms.json").is_file():
        build_gallery(scene, SETTINGS)
    return scene


def gallery_run(folder: Path) -> LanguageScene:
    """Opens the run of a folder; builds the gallery and trains it at the first call."""
    finished = sorted((folder / "runs").glob("**/nerfstudio_models/step-*.ckpt"))
    if finished:
        config = finished[-1].parents[1] / "config.yml"
    else:
        config = train_gallery(gallery_scene(folder), folder / "runs", RGB_STEPS)
    return open_run(config)


def middle_view(scene: LanguageScene) -> SceneView:
    """Returns the held-out view in the middle, which shows most things of the gallery."""
    views = scene.views("eval")
    return views[len(views) // 2]
