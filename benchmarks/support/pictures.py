"""The pictures of the documents, from a run of the demo."""

from __future__ import annotations

import json
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from genlangsplat_ns import TextQuery, open_run
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.preview import Pixels, describe_level, paint_regions, side_by_side
from genlangsplat_ns.language.visualize import highlight
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView

TEXTS = ("a cat", "a motorcycle", "a temple")
THRESHOLD = 0.8


def config_of(folder: Path) -> Path:
    """The config.yml of the run of a demo.

    Raises:
        GenLangSplatError: The folder has no report of the demo.
    """
    report = folder / "report.json"
    if not report.is_file():
        raise GenLangSplatError(f"Found no {report}; expected the output folder of the demo. Run `make demo` first.")
    return Path(json.loads(report.read_text(encoding="utf-8"))["config"])


def open_demo(folder: Path) -> LanguageScene:
    """Opens the run of a demo.

    Raises:
        GenLangSplatError: The folder has no report of the demo.
    """
    return open_run(config_of(folder))


def middle_view(scene: LanguageScene) -> SceneView:
    """Returns the held-out view in the middle, which shows most things of the gallery."""
    views = scene.views("eval")
    return views[len(views) // 2]


def draw_answers(scene: LanguageScene) -> Image.Image:
    """Draws a held-out view, and beside it what is found for each text, in color on gray."""
    query = scene.embed(TextQuery(TEXTS, threshold=THRESHOLD))
    answered = scene.answer(query, scene.camera(middle_view(scene)))
    panels = [("a view that was not trained on", _pixels(answered.rgb))]
    for answer in answered.answers:
        shown = highlight(answered.rgb, answer.mask[..., None].to(answered.rgb))
        panels.append((f'"{answer.text}", relevancy {answer.score:.2f}', _pixels(shown)))
    return side_by_side(panels)


def draw_regions(scene: LanguageScene) -> Image.Image:
    """Draws a held-out view, and beside it its regions at each level."""
    view = middle_view(scene)
    pixels = scene.image(view).cpu().numpy()
    regions = scene.datamanager.language_features(view.split, view.index).regions.numpy()
    panels = [(f"{pixels.shape[1]}x{pixels.shape[0]}", pixels)]
    for level, maps in zip(LEVELS, regions, strict=True):
        panels.append((describe_level(level, maps), paint_regions(pixels, maps)))
    return side_by_side(panels)


def _pixels(picture: Float[Tensor, "height width 3"]) -> Pixels:
    return (255 * picture).round().byte().cpu().numpy()
