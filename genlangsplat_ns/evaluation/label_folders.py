"""Finding the labels of a scene and telling which data set's way of writing they follow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.evaluation.lerf_ovs import read_label_folder
from genlangsplat_ns.evaluation.mask_folders import CLASSES_FILE, read_mask_folder, read_ovs3d
from genlangsplat_ns.utils.console import CONSOLE

LabelKind = Literal["lerf-ovs", "3d-ovs", "masks"]

FOLDER_NAMES = ("labels", "label", "segmentations")


@dataclass(frozen=True)
class LabelSet:
    """The labels of a scene.

    Attributes:
        kind: Whose layout they have: JSON outlines of LERF-OVS, masks with a class list of 3D-OVS, or masks alone.
        folder: Where they lie.
        views: The labels by the stem of the view's file name.
    """

    kind: LabelKind
    folder: Path
    views: dict[str, ViewLabels]

    @property
    def skipped(self) -> tuple[str, ...]:
        """What could not be used, as sentences."""
        return tuple(sentence for view in self.views.values() for sentence in view.skipped)


def find_label_folder(data: Path) -> Path | None:
    """The folder of labels that belongs to a scene; None when there is none.

    It is `labels`, `label` or `segmentations` beside the cameras, or, as LERF-OVS is packed, `label/SCENE` beside the
    scene.

    Args:
        data: The scene's folder, or the file of its cameras in it.
    """
    root = (data if data.is_dir() else data.parent).resolve()
    candidates = [*(root / name for name in FOLDER_NAMES), root.parent / "label" / root.name]
    return next((path for path in candidates if path.is_dir()), None)


def read_label_set(folder: Path) -> LabelSet:
    """Reads labels of any known layout, and says what was skipped.

    Raises:
        GenLangSplatError: If the folder does not exist or has none of the layouts, or a file in it is unusable.
    """
    if not folder.is_dir():
        raise GenLangSplatError(f"There is no folder {folder}. Give the folder of the labels.")
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
            f"{folder} holds no labels of a known layout: found {', '.join(found[:5]) or 'nothing'}. Expected one "
            f"VIEW.json per view (LERF-OVS), {CLASSES_FILE} and VIEW/CLASS.png (3D-OVS), or VIEW/CLASS.png alone."
        )
    if labels.skipped:
        shown = "; ".join(labels.skipped[:5]) + ("; ..." if len(labels.skipped) > 5 else "")
        CONSOLE.print(f"[yellow]Skipped {len(labels.skipped)} unusable labels in {folder}: {escape(shown)}[/yellow]")
    return labels
