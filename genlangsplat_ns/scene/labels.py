"""The labels of a scene, laid over its undistorted views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import match_views
from genlangsplat_ns.evaluation.label_folders import LabelSet, find_label_folder, read_label_set
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView

ASPECT_TOLERANCE = 0.02
"""How far the ratio of a label's sides may be from the photograph's: more is another picture, or a turned one."""

THUMBNAIL = (32, 32)

LEAST_CORRELATION = 0.5
"""Of the thumbnails of a photograph and of the picture its labels were drawn on. Pictures of two scenes lie near 0."""


def find_scene_labels(scene: LanguageScene) -> LabelSet | None:
    """Reads the labels that lie beside the data; None when there are none."""
    folder = find_label_folder(Path(scene.datamanager.config.dataparser.data))
    return None if folder is None else read_label_set(folder)


def warp_labels(labels: LabelSet, scene: LanguageScene, views: Sequence[SceneView]) -> LabelSet:
    """The labels with those of the given views undistorted as the views are; the others stay as they are.

    Raises:
        GenLangSplatError: If labels fit two views, or are of another picture than the view they name.
    """
    moved = dict(labels.views)
    for view, view_labels in match_views(views, labels.views).pairs:
        _require_same_picture(view_labels, scene, view)
        moved[Path(view.name).stem] = scene.undistort_labels(view_labels, view)
    return replace(labels, views=moved)


def _require_same_picture(labels: ViewLabels, scene: LanguageScene, view: SceneView) -> None:
    """Raises when labels cannot be of this view: frames of other scenes often have the same name."""
    width, height = scene.datamanager.raw_size(view.split, view.index)
    if abs(labels.width / labels.height / (width / height) - 1) > ASPECT_TOLERANCE:
        raise GenLangSplatError(
            f"The labels of {labels.name} are of {labels.width}x{labels.height} pixels, the photograph {view.name} has "
            f"{width}x{height}: not the same shape. They belong to another scene, or were drawn on a turned picture."
        )
    if labels.picture is None:
        return
    drawn_on = cv2.imread(str(labels.picture))
    if drawn_on is None:
        raise GenLangSplatError(f"The picture {labels.picture} beside the labels cannot be read. Remove it.")
    if _correlation(drawn_on[..., ::-1], scene.image(view)) < LEAST_CORRELATION:
        raise GenLangSplatError(
            f"The labels of {labels.name} were drawn on {labels.picture}, which does not look like the photograph "
            f"{view.name}. They belong to another scene with the same file names; give the labels of this one."
        )


def _correlation(first: UInt8[np.ndarray, "height width 3"], second: UInt8[Tensor, "rows columns 3"]) -> float:
    """How alike two pictures are in small: 1 for the same, near 0 for two that have nothing to do with each other."""
    small = [
        cv2.resize(picture.mean(axis=-1), THUMBNAIL, interpolation=cv2.INTER_AREA).ravel()
        for picture in (first, second.numpy())
    ]
    spreads = [picture - picture.mean() for picture in small]
    lengths = float(np.prod([np.linalg.norm(picture) for picture in spreads]))
    # A picture of one gray says nothing.
    return 1.0 if lengths == 0 else float(spreads[0] @ spreads[1]) / lengths
