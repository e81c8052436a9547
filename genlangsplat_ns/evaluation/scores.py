"""The scores of an evaluation, and their summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ACCURACY_IOU = 0.25
"""Minimum IoU (exclusive) of an accurate mask in the mAcc of OpenGaussian and VALA. This is not localization."""


@dataclass(frozen=True)
class QueryScore:
    """The score of one text in one view under one protocol."""

    view: str
    split: str
    """train or eval."""
    text: str
    category: str
    """The labeled category that the text should find."""
    protocol: str
    level: str
    """The level or level rule of the mask."""
    iou: float
    hit: bool | None
    """Whether a peak is on the object; None under a protocol without peaks."""
    peak: tuple[int, int] | None
    """The first peak (x, y); None for a constant map or a protocol without peaks."""
    score: float
    """The highest raw relevancy."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a run, one per view, text and protocol."""

    scores: tuple[QueryScore, ...]
    psnr: dict[str, float]
    """Peak signal-to-noise ratio in decibels of every rendered view, by name."""
    splits: dict[str, str]
    """The split of each of these views."""
    unmatched: tuple[str, ...]
    """Labeled views that the run does not have."""
    lost: tuple[str, ...] = ()
    """View and text pairs that could not be scored because no labeled pixel is inside the view."""
    masked: tuple[str, ...] = ()
    """Labeled views with pixels that do not count."""

    def chosen(self, protocol: str, split: str) -> list[QueryScore]:
        """Returns the scores under a protocol in the views of a split; `all` means both splits."""
        return [score for score in self.scores if score.protocol == protocol and split in ("all", score.split)]

    def summary(self, protocol: str, split: str) -> dict[str, Any]:
        """Returns localization, mean IoU and accuracy over the views of a split; `all` means both splits.

        `micro` averages over all (view, text) pairs, which is the score of a scene in LERF-OVS. `macro` averages over
        the means of the texts. `texts` has the figures of each text.
        """
        by_text: dict[str, list[QueryScore]] = {}
        for score in self.chosen(protocol, split):
            by_text.setdefault(score.text, []).append(score)
        texts = [
            {
                "text": text,
                "category": scores[0].category,
                "views": len(scores),
                "hits": None if scores[0].hit is None else sum(bool(score.hit) for score in scores),
                **means({text: scores})["micro"],
            }
            for text, scores in by_text.items()
        ]
        return {**means(by_text), "texts": texts}


def means(groups: Mapping[str, Sequence[QueryScore]]) -> dict[str, Any]:
    """Returns the number of pairs and their means over all pairs (`micro`) and over the group means (`macro`).

    Groups are the texts of a scene, or scenes, for which the literature mostly reports the macro mean. Undefined values
    are None instead of NaN: the means without any score, and the localization of a protocol without peaks.
    """
    found = [
        np.array([(bool(score.hit), score.iou, score.iou > ACCURACY_IOU) for score in group], float)
        for group in groups.values()
        if group
    ]
    if not found:
        return {"pairs": 0, "micro": None, "macro": None}
    has_peaks = all(score.hit is not None for group in groups.values() for score in group)
    figures: dict[str, Any] = {"pairs": sum(map(len, found))}
    for kind, rows in (("micro", np.concatenate(found)), ("macro", np.stack([group.mean(axis=0) for group in found]))):
        localization, miou, accuracy = rows.mean(axis=0).tolist()
        figures[kind] = {"localization": localization if has_peaks else None, "miou": miou, "acc_iou25": accuracy}
    return figures
