"""Finds the labels of a scene and detects their layout."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.evaluation.lerf_ovs import read_label_folder
from genlangsplat_ns.evaluation.mask_folders import CLASSES_FILE, read_mask_folder, read_ovs3d

LOGGER = logging.getLogger(__name__)

LabelKind = Literal["lerf-ovs", "3d-ovs", "masks"]
"""Layout of labels: `lerf-ovs` has JSON outlines, `3d-ovs` has masks and a class list, `masks` has masks only."""

FOLDER_NAMES = ("labels", "label", "segmentations")


@dataclass(frozen=True)
class LabelSet:
    """The labels of a scene by the stem of the view's file name."""

    kind: LabelKind
    folder: Path
    views: dict[str, ViewLabels]

    @property
    def skipped(self) -> tuple[str, ...]:
        """One message per unusable label."""
        return tuple(sentence for view in self.views.values() for sentence in view.skipped)


def find_label_folder(data: Path) -> Path | None:
    """Finds the label folder of a scene, given by its folder or the camera file in it; returns None if there is none.

    Looks for `labels`, `label` and `segmentations` in the scene's folder, then for `label/SCENE` next to the scene's
    folder, where LERF-OVS has it.
    """
    root = (data if data.is_dir() else data.parent).resolve()
    candidates = [*(root / name for name in FOLDER_NAMES), root.parent / "label" / root.name]
    return next((path for path in candidates if path.is_dir()), None)


def read_label_set(folder: Path) -> LabelSet:
    """Reads labels of any supported layout and logs the skipped ones.

    Raises:
        GenLangSplatError: If the folder does not exist, its layout is unknown, or a file in it is unusable.
    """
    if not folder.is_dir():
        raise GenLangSplatError(f"The label folder {folder} does not exist. Give an existing folder.")
    if (folder / "segmentations").is_dir():
        folder = folder / "segmentations"
    if (folder / CLASSES_FILE).is_file():
        labels = LabelSet("3d-ovs", folder, read_ovs3d(folder))
    elif any(folder.glob("*.json")):
        labels = LabelSet("lerf-ovs", folder, read_label_folder(folder))
    elif any(folder.glob("*/*.png")):
        labels = LabelSet("masks", folder, read_mask_folder(folder))
    else:
        found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        raise GenLangSplatError(
            f"{folder} has no labels of a known layout: found {', '.join(found[:5]) or 'nothing'}. Expected one "
            f"VIEW.json per view (LERF-OVS), {CLASSES_FILE} and VIEW/CLASS.png (3D-OVS), or VIEW/CLASS.png alone."
        )
    if labels.skipped:
        shown = "; ".join(labels.skipped[:5]) + ("; ..." if len(labels.skipped) > 5 else "")
        LOGGER.warning("Skipped %d unusable labels in %s: %s", len(labels.skipped), folder, shown)
    return labels
