"""Language metrics of a whole scene, for ns-eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from genlangsplat_ns.evaluation.evaluate import evaluate_views
from genlangsplat_ns.evaluation.matching import MatchedViews
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF
from genlangsplat_ns.evaluation.scores import QueryScore
from genlangsplat_ns.lifting.loss import language_fidelity
from genlangsplat_ns.scene.labels import usable_labels
from genlangsplat_ns.scene.language_scene import LanguageScene

MASKED_NOTE = "Masked pixels do not count; fully transparent pixels count only in colors, as background."
"""A remark on the metrics of views with such pixels."""


@dataclass(frozen=True)
class LanguageMetrics:
    """Language metrics of a scene."""

    means: dict[str, float]
    """`lang_cosine` and `lang_l1` between rendered latents and the latents of the views' regions, over all pixels with
    regions and all levels (masked pixels have no region); and for views with labels, `miou` and `localization` by
    LangSplat's LERF-OVS protocol over all pairs of view and text. A metric without data is omitted instead of NaN."""
    fidelity: dict[str, dict[str, float]]
    """`lang_cosine` and `lang_l1` of every view with regions, by its name."""
    queries: tuple[QueryScore, ...]
    """One score per pair of view and text."""


def language_metrics(scene: LanguageScene, split: Literal["train", "eval"] = "eval") -> LanguageMetrics:
    """Measures the language field on the views of a split, with the labels beside the data if they are usable."""
    return metrics_with_labels(scene, usable_labels(scene, scene.views(split)), split)


@torch.no_grad()
def metrics_with_labels(
    scene: LanguageScene, labeled: MatchedViews | None, split: Literal["train", "eval"] = "eval"
) -> LanguageMetrics:
    """Measures the language field on the views of a split, with these labels of them."""
    fidelity: dict[str, dict[str, float]] = {}
    pixels: list[int] = []
    views = scene.views(split)
    for view in views:
        targets, valid = scene.model.language_targets(scene.datamanager.language_features(split, view.index))
        if bool(valid.any()):
            l1, cosine = language_fidelity(scene.render(view).latents, targets, valid)
            fidelity[view.name] = {"lang_cosine": float(cosine), "lang_l1": float(l1)}
            pixels.append(int(valid.sum()))
    means = {
        name: float(np.average([figures[name] for figures in fidelity.values()], weights=pixels))
        for name in (("lang_cosine", "lang_l1") if pixels else ())
    }
    if labeled is None or not labeled.pairs:
        return LanguageMetrics(means, fidelity, ())
    evaluation = evaluate_views(scene, views, labeled, protocols=(LANGSPLAT_LERF,))
    micro = evaluation.summary(LANGSPLAT_LERF.name, split)["micro"]
    means |= {"miou": micro["miou"], "localization": micro["localization"]}
    return LanguageMetrics(means, fidelity, evaluation.scores)
