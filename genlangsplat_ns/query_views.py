"""Asking many views of a run and writing down what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from genlangsplat_ns.console import CONSOLE, track
from genlangsplat_ns.files import atomic_path, safe_name
from genlangsplat_ns.language.query import TextQuery, ViewAnswer
from genlangsplat_ns.language.visualize import relevancy_overlay
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene import RenderedView, SceneView


def query_views(
    config_path: Path, query: TextQuery, split: Literal["eval", "train", "all"], mode: str, output_dir: Path
) -> None:
    """Answers a query in every view of a split; writes an overlay and a mask per view and text, and `query.json`.

    Args:
        config_path: The run's config.yml.
        query: What to ask.
        split: Which views.
        mode: How scores are computed; written into the result.
        output_dir: Where the pictures and the JSON go.
    """
    scene = open_run(config_path)
    embedded = scene.embed(query)
    results = []
    for view in track(scene.views(split), "Asking views"):
        rendered = scene.render(view)
        for number, answer in enumerate(scene.answer(embedded, rendered)):
            results.append(_write_answer(output_dir, view, rendered, answer, number))
    document = {"texts": query.texts, "negatives": query.negatives, "mode": mode, "results": results}
    with atomic_path(output_dir / "query.json") as path:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False))
    _print_summary(query.texts, results)
    CONSOLE.print(f"Pictures and query.json are in {escape(str(output_dir))}.")


def _write_answer(
    output_dir: Path, view: SceneView, rendered: RenderedView, answer: ViewAnswer, number: int
) -> dict[str, Any]:
    """Writes the two pictures of an answer and returns its entry for the JSON."""
    stem = f"{view.split}-{Path(view.name).stem}-{number}-{safe_name(answer.text)}"
    overlay, mask = f"{stem}-overlay.png", f"{stem}-mask.png"
    _write_picture(output_dir / overlay, relevancy_overlay(rendered.rgb, answer.map))
    _write_picture(output_dir / mask, answer.mask.float())
    height, width = answer.map.shape
    return {
        "view": view.name,
        "split": view.split,
        "text": answer.text,
        "level": answer.level,
        "score": round(answer.score, 4),
        "peak": list(answer.peak),
        "size": [width, height],
        "overlay": overlay,
        "mask": mask,
    }


def _write_picture(path: Path, picture: Float[Tensor, "height width *channels"]) -> None:
    """Writes a picture of values from 0 to 1."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary)


def _print_summary(texts: Sequence[str], results: list[dict[str, Any]]) -> None:
    """Prints for each text where it is strongest."""
    table = Table("text", "best view", "split", "score", "level", "peak x, y")
    for text in texts:
        best = max((result for result in results if result["text"] == text), key=lambda result: result["score"])
        peak = ", ".join(map(str, best["peak"]))
        table.add_row(text, best["view"], best["split"], f"{best['score']:.3f}", best["level"], peak)
    CONSOLE.print(table)
