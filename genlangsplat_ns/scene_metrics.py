"""Numbers about the language of a whole scene, for ns-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from genlangsplat_ns.evaluation.evaluate import evaluate_views
from genlangsplat_ns.evaluation.lerf_ovs import ViewLabels, read_label_folder
from genlangsplat_ns.evaluation.metrics import LANGSPLAT_LERF
from genlangsplat_ns.scene import LanguageScene, SceneView

LABEL_FOLDERS = ("labels", "label")
"""Where labels in LERF-OVS format are looked for, beside the images."""


@torch.no_grad()
def language_metrics(scene: LanguageScene, split: Literal["train", "eval"] = "eval") -> dict[str, float]:
    """Measures the language field on the views of a split.

    Returns:
        `lang_cosine` and `lang_l1` between rendered latents and the latents of the views' own regions, over all
        labelled pixels and levels; and where the data has labels, `miou` and `localization` by LangSplat's LERF-OVS
        protocol, averaged over all pairs of view and text. A metric without anything to measure is left out, so that
        no NaN poisons a mean.
    """
    metrics: dict[str, float] = {}
    views = scene.views(split)
    l1_sum, cosine_sum, count = 0.0, 0.0, 0
    for view in views:
        targets, valid = scene.model.language_targets(scene.datamanager.language_features(split, view.index))
        pixels = int(valid.sum())
        if pixels > 0:
            l1, one_minus_cosine = scene.model.language_loss(scene.render(view).latents, targets, valid)
            l1_sum += float(l1) * pixels
            cosine_sum += (1 - float(one_minus_cosine)) * pixels
            count += pixels
    if count > 0:
        metrics |= {"lang_cosine": cosine_sum / count, "lang_l1": l1_sum / count}
    labels = scene_labels(scene, views)
    if labels:
        evaluation = evaluate_views(scene, views, labels, protocols=(LANGSPLAT_LERF,))
        micro = evaluation.summary(LANGSPLAT_LERF.name, split)["micro"]
        metrics |= {"miou": micro["miou"], "localization": micro["localization"]}
    return metrics


def scene_labels(scene: LanguageScene, views: list[SceneView]) -> dict[str, ViewLabels]:
    """Reads the labels beside the data for the given views, undistorted as the views are; empty when there are none."""
    data = Path(scene.datamanager.config.dataparser.data)
    root = data if data.is_dir() else data.parent
    folder = next((root / name for name in LABEL_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        return {}
    found = read_label_folder(folder)
    return {
        Path(view.name).stem: scene.undistort_labels(found[Path(view.name).stem], view)
        for view in views
        if Path(view.name).stem in found
    }
