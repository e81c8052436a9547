"""Queries the fox scene for a fox and compares the answers with hand-drawn outlines.

    python benchmarks/fox.py --load-config RUN/config.yml --json fox.json

RUN is a finished run of `ns-train gen-langsplat-lite --data FOX`. The peak is scored in views that show the fox's head,
and the mask in views with an outline.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genlangsplat_ns.evaluation.labels import LabeledObject, ViewLabels
from genlangsplat_ns.evaluation.metrics import intersection_over_union, psnr
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import LevelRule
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.utils.progress import track
from support.benchmark import Benchmark, Goal, Results, Row
from support.tables import print_table

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


def ask_views(scene: LanguageScene, query: TextQuery) -> list[Row]:
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


@dataclass(frozen=True, kw_only=True)
class FoxBenchmark(Benchmark):
    """A trained run of the fox scene compared with hand-drawn outlines."""

    load_config: Path
    """config.yml of the run."""
    level: LevelRule = TextQuery.level
    """Level rule of the query."""
    threshold: float = TextQuery.threshold
    """Threshold of the mask."""
    quick: bool = False
    """Query only one text."""

    def measure(self) -> Results:
        """Queries the views."""
        torch.manual_seed(0)
        scene = open_run(self.load_config)
        lines, results = [], []
        for text in ("a fox",) if self.quick else ("a fox", "wild animal"):
            rows = ask_views(scene, TextQuery((text,), level=self.level, threshold=self.threshold))
            results += [{"text": text, **row} for row in rows]
            for split in ("train", "eval"):
                chosen = [row for row in rows if row["split"] == split]
                visible = [row for row in chosen if row["visible"]]
                outlined = [row for row in chosen if row["outlined"]]
                cells = [f"{mean([row['iou'][t] for row in outlined]):.3f}" for t in (0.5, 0.6, 0.7, 0.8)]
                hits = f"{sum(row['hit'] for row in visible)} of {len(visible)}"
                lines.append((text, split, str(len(chosen)), hits, str(len(outlined)), *cells))
        headings = ("text", "split", "views", "peaks on the fox", "outlines", "IoU > .5", "> .6", "> .7", "> .8")
        print_table(headings, lines)
        fox = [row for row in results if row["text"] == "a fox"]
        peaks = [row["hit"] for row in fox if row["visible"]]
        overlaps = [row["iou"][self.threshold] for row in fox if row["outlined"] and row["visible"]]
        goals = [
            Goal("held-out PSNR in dB", held_out_psnr(scene), ">=", 27.0),
            Goal("share of peaks of 'a fox' on the fox", mean(peaks), ">=", 0.9),
            Goal("mean IoU of the mask of 'a fox' in outlined views that show its head", mean(overlaps), ">=", 0.7),
        ]
        return results, goals


if __name__ == "__main__":
    FoxBenchmark.main()
