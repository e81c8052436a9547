"""Answers a query from many cameras and writes images and scores of the answers."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.answers import ViewAnswer
from genlangsplat_ns.language.field import GaussianAnswer
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import QueryMode, SelectionSettings
from genlangsplat_ns.language.visualize import relevancy_overlay
from genlangsplat_ns.scene.cameras import NamedCamera, cameras_of
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.settings import CameraSettings
from genlangsplat_ns.utils.files import atomic_path, safe_name
from genlangsplat_ns.utils.progress import track
from genlangsplat_ns.utils.view_names import answer_stems

FRAMES_PER_SECOND = 24


def query_views(
    scene: LanguageScene,
    query: TextQuery,
    output_dir: Path,
    cameras: CameraSettings | None = None,
    selection: SelectionSettings | None = None,
    mode: QueryMode = "gaussian",
    video: bool = False,
) -> dict[str, Any]:
    """Answers a query from every camera, and writes images or videos and `query.json`, whose content it returns.

    The default cameras are all views. `selection` cleans up the selected Gaussians in the JSON. With `video`, there is
    one overlay video per text instead of an overlay and a mask image per text and view.

    Raises:
        GenLangSplatError: The camera path cannot be read, or ffmpeg, which writes videos, is missing.
    """
    if video:
        require_ffmpeg()
    chosen, crop = cameras_of(scene, cameras or CameraSettings())
    embedded = scene.embed(query)
    inside = None if crop is None else crop.box.within(scene.field.means).reshape(-1)
    found = scene.field.find(embedded, selection, among=inside)
    stems = answer_stems([(camera.split, camera.name) for camera in chosen], query.texts)
    results: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if crop is not None:
            stack.enter_context(crop.applied_to(scene.model))
        writers = [_VideoOfText(stack, output_dir, number, text) for number, text in enumerate(query.texts)]
        for camera, own_stems in zip(track(chosen, "Querying views"), stems, strict=True):
            answered = scene.answer(embedded, camera.camera, mode)
            for number, answer in enumerate(answered.answers):
                overlay = _to_bytes(relevancy_overlay(answered.rgb, answer.map))
                if video:
                    files = {"overlay": writers[number].add(overlay)}
                else:
                    files = _write_images(output_dir, own_stems[number], answer, overlay)
                results.append(_view_entry(camera, answer, answered.points[number]) | files)
    document = {
        "texts": query.texts,
        "negatives": query.negatives,
        "mode": mode,
        "threshold": query.threshold,
        "selections": [_selection_entry(answer) for answer in found],
        "results": results,
    }
    with atomic_path(output_dir / "query.json") as path:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
    return document


def require_ffmpeg() -> None:
    """Raises an error if ffmpeg, which writes videos, is not installed."""
    if shutil.which("ffmpeg") is None:
        raise GenLangSplatError(
            "Could not find ffmpeg, which writes videos: `apt-get install ffmpeg`. Images do not need it."
        )


class _VideoOfText:
    """The video of one text, in the size of its first frame."""

    def __init__(self, stack: ExitStack, output_dir: Path, number: int, text: str) -> None:
        self._stack, self._path = stack, output_dir / f"{number}-{safe_name(text)}.mp4"
        self._writer: Any = None

    def add(self, frame: UInt8[np.ndarray, "height width 3"]) -> str:
        """Adds a frame and returns the name of the file."""
        import mediapy

        if self._writer is None:
            path = self._stack.enter_context(atomic_path(self._path))
            height, width = frame.shape[:2]
            self._writer = self._stack.enter_context(mediapy.VideoWriter(path, (height, width), fps=FRAMES_PER_SECOND))
        self._writer.add_image(frame)
        return self._path.name


def _write_images(
    output_dir: Path, stem: str, answer: ViewAnswer, overlay: UInt8[np.ndarray, "height width 3"]
) -> dict[str, str]:
    """Writes the overlay and the mask of an answer and returns their file names."""
    images = {"overlay": overlay, "mask": _to_bytes(answer.mask.float())}
    for kind, pixels in images.items():
        with atomic_path(output_dir / f"{stem}-{kind}.png") as temporary:
            Image.fromarray(pixels).save(temporary)
    return {kind: f"{stem}-{kind}.png" for kind in images}


def _view_entry(camera: NamedCamera, answer: ViewAnswer, point: tuple[float, ...]) -> dict[str, Any]:
    """Returns the JSON entry of an answer in a view."""
    return {
        "view": camera.name,
        "split": camera.split,
        "text": answer.text,
        "level": answer.level,
        "score": round(answer.score, 4),
        "peak": list(answer.peak),
        "peak_3d": [round(value, 5) for value in point],
        "size": list(answer.map.shape[::-1]),
        "selected": round(float(answer.mask.float().mean()), 5),
    }


def _selection_entry(answer: GaussianAnswer) -> dict[str, Any]:
    """Returns the JSON entry of the Gaussians that answer a text."""
    return {
        "text": answer.text,
        "level": answer.level,
        "score": round(answer.score, 4),
        "peak_3d": answer.peak,
        "gaussians": answer.selection.count,
        "box": answer.selection.box,
        "centroid": answer.selection.centroid,
    }


def _to_bytes(image: Float[Tensor, "height width *channels"]) -> UInt8[np.ndarray, "height width *channels"]:
    """Converts an image from values in 0..1 to bytes."""
    return np.ascontiguousarray((image.clamp(0, 1) * 255).round().byte().numpy())
