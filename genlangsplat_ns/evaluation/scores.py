"""The scores of an evaluation and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genlangsplat_ns.evaluation.metrics import macro_mean, micro_mean

ACCURACY_IOU = 0.25
"""The overlap that counts as accurate in the mAcc of OpenGaussian and VALA, which is no localization."""


@dataclass(frozen=True)
class QueryScore:
    """How one text did in one view under one protocol.

    Attributes:
        view: File name of the view.
        split: train or eval.
        text: What was asked.
        category: The labeled category it should find.
        protocol: Name of the protocol.
        level: The level or rule of the mask.
        iou: Overlap of the mask with the labeled pixels.
        hit: Whether the peak found the object; None under a protocol without peaks.
        peak: The first peak (x, y); None for a constant map and without peaks.
        score: The highest value of the raw relevancy.
    """

    view: str
    split: str
    text: str
    category: str
    protocol: str
    level: str
    iou: float
    hit: bool | None
    peak: tuple[int, int] | None
    score: float


@dataclass(frozen=True)
class Evaluation:
    """The scores of a run.

    Attributes:
        scores: One per view, text and protocol.
        psnr: Peak signal-to-noise ratio of every view that was rendered, by name, in decibels.
        splits: The split of each of these views.
        unmatched: Labeled views that the run does not have.
        lost: Pairs of view and text that could not be scored, because no labeled pixel lies in the view.
    """

    scores: tuple[QueryScore, ...]
    psnr: dict[str, float]
    splits: dict[str, str]
    unmatched: tuple[str, ...]
    lost: tuple[str, ...] = ()

    def chosen(self, protocol: str, split: str) -> list[QueryScore]:
        """The scores under a protocol in the views of a split, `all` for both."""
        return [score for score in self.scores if score.protocol == protocol and split in ("all", score.split)]

    def summary(self, protocol: str, split: str) -> dict[str, Any]:
        """Localization, mean IoU and accuracy over the views of a split, `all` for both.

        `micro` averages over all (view, text) pairs, which in LERF-OVS is the score of a scene; `macro` averages over
        the texts, each by the mean over its views. `texts` has the details.
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
    """The number of pairs and the means of groups of scores, over all (`micro`) and over the groups (`macro`).

    Over the texts of a scene or over scenes, of which the literature mostly takes the macro mean. Nothing is NaN: means
    of nothing are None, and so is the localization of a protocol without peaks.
    """
    scores = [score for group in groups.values() for score in group]
    if not scores:
        return {"pairs": 0, "micro": None, "macro": None}
    overlaps = {name: [score.iou for score in group] for name, group in groups.items()}
    accurate = {name: [float(iou > ACCURACY_IOU) for iou in group] for name, group in overlaps.items()}
    hits = {name: [float(bool(score.hit)) for score in group] for name, group in groups.items()}
    has_peaks = scores[0].hit is not None
    return {
        "pairs": len(scores),
        **{
            name: {
                "localization": mean(hits) if has_peaks else None,
                "miou": mean(overlaps),
                "acc_iou25": mean(accurate),
            }
            for name, mean in (("micro", micro_mean), ("macro", macro_mean))
        },
    }
