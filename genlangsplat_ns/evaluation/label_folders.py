"""Finds the labels of a scene and detects their layout."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.coco import join_views, parse_coco
from genlangsplat_ns.evaluation.foreign_labels import foreign_files, foreign_json
from genlangsplat_ns.evaluation.label_files import by_view, label_paths, read_json
from genlangsplat_ns.evaluation.labelme import parse_labelme
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.evaluation.lerf_ovs import parse_lerf_ovs
from genlangsplat_ns.evaluation.mask_folders import CLASSES_FILE, has_masks, read_mask_folder

LOGGER = logging.getLogger(__name__)

LabelKind = Literal["lerf-ovs", "3d-ovs", "masks", "labelme", "coco"]
"""Layout of labels: `lerf-ovs` (also ISAT's), `labelme` and `coco` have JSON outlines, `3d-ovs` has masks and a class
list, `masks` has masks only."""

PARSERS: dict[LabelKind, Callable[[Any, Path], list[ViewLabels]]] = {
    "lerf-ovs": parse_lerf_ovs,
    "labelme": parse_labelme,
    "coco": parse_coco,
}
"""What reads the content of a JSON file of each layout. It raises GenLangSplatError without the name of the file."""

FOLDER_NAMES = ("labels", "label", "segmentations")


@dataclass(frozen=True)
class LabelSet:
    """The labels of a scene by the path of their file below the folder, which has the stem of the view's file name."""

    kind: LabelKind
    folder: Path
    """The folder or file of the labels."""
    views: dict[str, ViewLabels]

    @property
    def skipped(self) -> tuple[str, ...]:
        """One message per unusable label."""
        return tuple(sentence for view in self.views.values() for sentence in view.skipped)

    @property
    def notes(self) -> tuple[str, ...]:
        """One message per thing that was read in another way than the files may suggest."""
        return tuple(sentence for view in self.views.values() for sentence in view.notes)


def find_label_folder(data: Path) -> Path | None:
    """Finds the label folder of a scene, given by its folder or the camera file in it; returns None if there is none.

    Looks for `labels`, `label` and `segmentations` in the scene's folder, then for `label/SCENE` next to the scene's
    folder, where LERF-OVS has it.
    """
    root = (data if data.is_dir() else data.parent).resolve()
    candidates = [*(root / name for name in FOLDER_NAMES), root.parent / "label" / root.name]
    return next((path for path in candidates if path.is_dir()), None)


def read_label_set(folder: Path) -> LabelSet:
    """Reads labels of any supported layout, from a folder with its subfolders or from one file; logs skipped labels.

    Raises:
        GenLangSplatError: If the folder does not exist, its layout is unknown, or a file in it is unusable.
    """
    if not folder.exists():
        raise GenLangSplatError(f"The label folder {folder} does not exist. Give an existing folder.")
    if (folder / "segmentations").is_dir():
        folder = folder / "segmentations"
    paths = [folder] if folder.is_file() else label_paths(folder, "*")
    texts = [path for path in paths if path.suffix.lower() == ".json"]
    masks = folder.is_dir() and has_masks(folder)
    classes = masks and (folder / CLASSES_FILE).is_file()
    outlines = None if classes else _read_outlines(texts, folder, masks)
    if outlines is not None:
        labels = outlines
    elif (error := foreign_files(paths, folder, masks)) is not None:
        raise error
    elif masks:
        labels = LabelSet("3d-ovs" if classes else "masks", folder, read_mask_folder(folder))
    else:
        found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        raise GenLangSplatError(
            f"{folder} has no labels of a known layout: found {', '.join(found[:5]) or 'nothing'}. Expected one "
            f"VIEW.json per view (LERF-OVS, ISAT, labelme), one JSON file for all (COCO), {CLASSES_FILE} and "
            "VIEW/CLASS.png (3D-OVS), or VIEW/CLASS.png alone. Give a folder with one of these."
        )
    for messages, sentence in (
        (labels.skipped, "Skipped %d unusable labels in %s: %s"),
        (labels.notes, "%d notes on the labels in %s: %s"),
    ):
        if messages:
            shown = "; ".join(messages[:5]) + ("; ..." if len(messages) > 5 else "")
            LOGGER.warning(sentence, len(messages), folder, shown)
    return labels


def _read_outlines(paths: list[Path], root: Path, masks: bool) -> LabelSet | None:
    """Reads the JSON files of a folder, all of one format; None if there are masks, and no file has outlines."""
    found: list[tuple[Path, ViewLabels]] = []
    kinds: dict[LabelKind, Path] = {}
    foreign: GenLangSplatError | None = None
    for path in paths:
        document = read_json(path)
        kind = _kind_of(document)
        if kind is None:
            foreign = foreign or foreign_json(document, path)
            continue
        kinds.setdefault(kind, path)
        try:
            found += [(path, view) for view in PARSERS[kind](document, path)]
        except GenLangSplatError as error:
            raise GenLangSplatError(f"The labels {path} are unusable. {error}") from error
    if foreign is not None and (kinds or not masks):
        raise foreign
    if len(kinds) > 1:
        shown = " and ".join(f"{kind} ({path})" for kind, path in kinds.items())
        raise GenLangSplatError(f"{root} has labels of several formats: {shown}. Give the folder of one of them.")
    for kind in kinds:
        joined = join_views(found) if kind == "coco" else found
        return LabelSet(kind, root, by_view(joined, root.parent if root.is_file() else root))
    return None


def _kind_of(document: Any) -> LabelKind | None:
    """Returns the format of a JSON file; None if it is not a supported one."""
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("shapes"), list):
        return "labelme"
    if isinstance(document.get("images"), list) and isinstance(document.get("annotations"), list):
        panoptic = any(isinstance(entry, dict) and "segments_info" in entry for entry in document["annotations"][:1])
        return None if panoptic else "coco"
    return "lerf-ovs" if {"info", "objects"} <= document.keys() else None
