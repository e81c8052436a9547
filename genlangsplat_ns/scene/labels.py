"""Finds the labels of a scene and warps them to its undistorted views."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import LabelSet, find_label_folder, read_label_set
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.evaluation.matching import MatchedViews, match_views
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView

LOGGER = logging.getLogger(__name__)

ASPECT_TOLERANCE = 0.02
"""Maximum relative difference between the aspect ratios of labels and photograph."""

THUMBNAIL = (32, 32)

MIN_CORRELATION = 0.5
"""Minimum correlation between thumbnails of a photograph and of the image its labels were drawn on. Images of different
scenes have correlations near 0."""


def find_scene_labels(scene: LanguageScene) -> LabelSet | None:
    """Reads the labels stored next to the data; None if there are none."""
    folder = find_label_folder(Path(scene.datamanager.config.dataparser.data))
    return None if folder is None else read_label_set(folder)


def usable_labels(scene: LanguageScene, views: Sequence[SceneView]) -> MatchedViews | None:
    """Returns the labels beside the data, warped to these views; None if there are none.

    Unusable ones, which nobody asked for, are reported and not used.
    """
    try:
        labels = find_scene_labels(scene)
        return None if labels is None else warp_labels(labels, scene, views)
    except GenLangSplatError as error:
        LOGGER.warning("The labels beside the data are not used: %s", error)
        return None


def warp_labels(labels: LabelSet, scene: LanguageScene, views: Sequence[SceneView]) -> MatchedViews:
    """Finds the labels of the given views, undistorted like the views, and the names of labels without a view.

    All views of the scene are searched, so that labels of a view that is not given are not taken for those of another.

    Raises:
        GenLangSplatError: Labels match two views, or were drawn on another image.
    """
    # Of a photograph in both splits, the labels belong to the view that is asked for.
    names = {view.name for view in views}
    others = [view for view in scene.views("all") if view.name not in names]
    folder = labels.folder.parent if labels.folder.is_file() else labels.folder
    found = match_views([*views, *others], labels.views, folder)
    _check_view_folders(labels, found, [*views, *others])
    pairs = []
    for view, view_labels in found.pairs:
        if view.name in names:
            _check_same_image(view_labels, scene, view)
            pairs.append((view, scene.undistort_labels(view_labels, view)))
    return MatchedViews(tuple(pairs), found.unmatched)


def _check_view_folders(labels: LabelSet, found: MatchedViews, views: Sequence[SceneView]) -> None:
    """Checks that masks without a view are not one picture per view, whose names look like classes."""
    stems = {PurePosixPath(view.name).stem for view in views}
    categories = {category for view in labels.views.values() for category in view.categories}
    if labels.kind == "masks" and not found.pairs and (shared := sorted(stems & categories)):
        raise GenLangSplatError(
            f"{labels.folder} has {shared[0]}.png, which is the name of a view. Expected a folder per view with one "
            "black-and-white CLASS.png per class; pictures of class numbers are not read. Export COCO labels instead: "
            "CVAT imports masks of class numbers and exports COCO 1.0."
        )


def _check_same_image(labels: ViewLabels, scene: LanguageScene, view: SceneView) -> None:
    """Checks that labels can belong to a view, because images of other scenes often have the same name."""
    width, height = scene.datamanager.raw_size(view.split, view.index)
    if abs(labels.width / labels.height / (width / height) - 1) > ASPECT_TOLERANCE:
        raise GenLangSplatError(
            f"The labels of {labels.name} have {labels.width}x{labels.height} pixels and the photograph {view.name} "
            f"has {width}x{height}: not the same shape. The labels belong to another scene or to a rotated image. Give "
            "the labels of this scene."
        )
    if labels.picture is None:
        return
    drawn_on = cv2.imread(str(labels.picture))
    if drawn_on is None:
        raise GenLangSplatError(f"The image {labels.picture} next to the labels cannot be read. Remove it.")
    if _correlation(drawn_on[..., ::-1], scene.image(view)) < MIN_CORRELATION:
        raise GenLangSplatError(
            f"The labels of {labels.name} were drawn on {labels.picture}, which does not resemble the photograph "
            f"{view.name}. They belong to another scene with the same file names; give the labels of this scene."
        )


def _correlation(first: UInt8[np.ndarray, "height width 3"], second: UInt8[Tensor, "rows columns 3"]) -> float:
    """Computes the correlation between grayscale thumbnails of two images; 1 if an image has a single gray value."""
    thumbnails = np.stack(
        [
            cv2.resize(image.mean(axis=-1), THUMBNAIL, interpolation=cv2.INTER_AREA).ravel()
            for image in (first, second.numpy())
        ]
    )
    return float(np.corrcoef(thumbnails)[0, 1]) if thumbnails.std(axis=1).all() else 1.0
