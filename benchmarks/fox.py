"""Queries the fox scene for a fox and compares the answers with hand-drawn outlines.

`--load-config RUN/config.yml` is a finished run of `ns-train gen-langsplat-lite --data FOX`. The peak is scored in
views that show the fox's head, and the mask in views with an outline.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from common import Goal, write_results
from genlangsplat_ns.evaluation.labels import LabeledObject, ViewLabels
from genlangsplat_ns.evaluation.metrics import intersection_over_union, psnr
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.progress import track

OUTLINES = Path(__file__).parents[1] / "tests" / "fox_outlines.json"


def read_frames() -> dict[str, dict[str, Any]]:
    """The hand-made labels by file name."""
    return {frame["name"]: frame for frame in json.loads(OUTLINES.read_text())["frames"]}


def labels_of(frame: dict[str, Any]) -> ViewLabels:
    """The outline of a frame, or its box if there is no outline, as labels of the raw photograph."""
    objects = [LabeledObject.from_polygon("fox", item["segmentation"]) for item in frame["objects"]]
    if not objects:
        left, top, right, bottom = frame["bbox"]
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        objects = [LabeledObject.from_polygon("fox", corners)]
    return ViewLabels(frame["name"], frame["width"], frame["height"], tuple(objects))


def ask_views(scene: LanguageScene, query: TextQuery) -> list[dict[str, Any]]:
    """One row per labeled view."""
    frames = read_frames()
    embedded = scene.embed(query)
    rows = []
    for view in track(scene.views(), f"Asking for {query.texts[0]}"):
        frame = frames[view.name]
        if not frame["visible"] and not frame["objects"]:
            continue
        answered = scene.answer(embedded, scene.camera(view), "rendered")
        answer = answered.answers[0]
        truth = scene.undistort_labels(labels_of(frame), view).truth("fox").mask
        column, row = answer.peak
        overlaps = {}
        if frame["objects"]:
            for threshold in (0.5, 0.6, 0.7, 0.8, query.threshold):
                overlaps[threshold] = intersection_over_union((answer.map > threshold).numpy(), truth)
        image = scene.image(view).float() / 255
        rows.append(
            {
                "view": view.name,
                "split": view.split,
                "visible": frame["visible"],
                "outlined": bool(frame["objects"]),
                "hit": bool(truth[row, column]),
                "score": answer.score,
                "iou": overlaps,
                "psnr": float(psnr(answered.rgb, image)),
            }
        )
    return rows


def mean(values: list[float]) -> float:
    """The mean; NaN if there are no values."""
    return float(np.mean(values)) if values else float("nan")


def held_out_psnr(scene: LanguageScene) -> float:
    """Mean PSNR of the held-out views."""
    views = scene.views("eval")
    return mean([float(psnr(scene.render(view).rgb, scene.image(view).float() / 255)) for view in views])


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load-config", type=Path, required=True, help="config.yml of the run")
    parser.add_argument("--level", default=TextQuery.level, help="level rule of the query")
    parser.add_argument("--threshold", type=float, default=TextQuery.threshold, help="threshold of the mask")
    parser.add_argument("--json", type=Path, help="output file for the results")
    parser.add_argument("--quick", action="store_true", help="query only one text")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    scene = open_run(arguments.load_config)
    texts = ["a fox"] if arguments.quick else ["a fox", "wild animal"]
    table = Table("text", "split", "views", "peaks on the fox", "outlines", "IoU > .5", "> .6", "> .7", "> .8")
    results: list[dict[str, Any]] = []
    for text in texts:
        rows = ask_views(scene, TextQuery((text,), level=arguments.level, threshold=arguments.threshold))
        results += [{"text": text, **row} for row in rows]
        for split in ("train", "eval"):
            chosen = [row for row in rows if row["split"] == split]
            visible = [row for row in chosen if row["visible"]]
            outlined = [row for row in chosen if row["outlined"]]
            cells = [f"{mean([row['iou'][t] for row in outlined]):.3f}" for t in (0.5, 0.6, 0.7, 0.8)]
            hits = f"{sum(row['hit'] for row in visible)} of {len(visible)}"
            table.add_row(text, split, str(len(chosen)), hits, str(len(outlined)), *cells)
    CONSOLE.print(table)
    fox = [row for row in results if row["text"] == "a fox"]
    goals = [
        Goal("held-out PSNR in dB", held_out_psnr(scene), ">=", 27.0),
        Goal("share of peaks of 'a fox' on the fox", mean([row["hit"] for row in fox if row["visible"]]), ">=", 0.9),
        Goal(
            "mean IoU of the mask of 'a fox' in outlined views that show its head",
            mean([row["iou"][arguments.threshold] for row in fox if row["outlined"] and row["visible"]]),
            ">=",
            0.7,
        ),
    ]
    write_results(arguments.json, results, goals)


if __name__ == "__main__":
    main()
