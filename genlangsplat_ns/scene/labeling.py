"""Writes the class and the instance of every Gaussian of a scene as PLY and JSON files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from genlangsplat_ns.language.labeling import label_field
from genlangsplat_ns.language.oriented_boxes import PrincipalBox
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import LabelSettings
from genlangsplat_ns.language.visualize import distinct_colors
from genlangsplat_ns.scene.export import FrameName, capture_frame, in_capture_frame, log_offset, require_capture_frame
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.frames import SceneFrame
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.packing import HARMONIC
from genlangsplat_ns.scene_io.ply import write_ply
from genlangsplat_ns.utils.files import atomic_path, check_new_file

LABELS_FORMAT = "genlangsplat-labels-1"
"""Format name in labels.json."""

UNLABELED = "unlabeled"
"""Name of the class 0."""

UNLABELED_COLOR = (128, 128, 128)

Coloring = Literal["nowhere", "class", "instance"]


@dataclass(frozen=True)
class LabelFiles:
    """The files that labeling writes.

    Attributes:
        folder: Their folder.
        colored: Whether there is a recolored copy, and by what.
    """

    folder: Path
    colored: Coloring = "nowhere"

    @property
    def splats(self) -> Path:
        """The Gaussians with their classes and instances."""
        return self.folder / "labels.ply"

    @property
    def document(self) -> Path:
        """Names, colors, counts, boxes and centroids."""
        return self.folder / "labels.json"

    @property
    def preview(self) -> Path:
        """The recolored Gaussians."""
        return self.folder / "labels-colored.ply"

    def check(self, overwrite: bool) -> None:
        """Checks that the files can be written, before the work starts.

        Raises:
            GenLangSplatError: A file exists without `overwrite`, or cannot be written.
        """
        for path in (self.splats, self.document, *([self.preview] if self.colored != "nowhere" else [])):
            check_new_file(path, overwrite)


@torch.no_grad()
def label_scene(
    scene: LanguageScene,
    query: TextQuery,
    settings: LabelSettings,
    files: LabelFiles,
    frame: FrameName = "run",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Labels the Gaussians of a scene, writes the files, and returns the content of `labels.json`.

    Raises:
        GenLangSplatError: The run has no language phase, no Gaussian gets a class, the frame of the input poses is
            needed and unknown, or a file exists or cannot be written.
    """
    files.check(overwrite)
    capture = capture_frame(scene) if frame == "run" else require_capture_frame(scene)
    sizes = scene.model.scales.detach().amax(dim=1).exp()
    labels = label_field(scene.field, sizes, scene.embed(query), settings)
    keep = scene.model.drawable()
    classes, instances = (ids[keep].numpy() for ids in (labels.class_ids, labels.instance_ids))
    gaussians, offset = scene.model.splats(keep), None
    document = _document(query, settings, gaussians, classes, instances, labels.scores[keep].numpy(), capture)
    if frame != "run":
        gaussians, offset = in_capture_frame(gaussians, require_capture_frame(scene))
    moved_by = None if offset is None else offset.tolist()
    document |= {"file": files.splats.name, "frame": "run" if frame == "run" else "capture", "offset": moved_by}
    antialiased = scene.model.config.rasterize_mode == "antialiased"
    ids: dict[str, Tensor | np.ndarray] = {
        "class_id": classes.astype(np.uint16),
        "instance_id": instances.astype(np.uint32),
    }
    write_ply(files.splats, gaussians, ids, moved_by, antialiased)
    if files.colored != "nowhere":
        chosen = classes if files.colored == "class" else instances
        write_ply(files.preview, _recolored(gaussians, chosen), None, moved_by, antialiased)
    elif overwrite:
        # That of the replaced labels.
        files.preview.unlink(missing_ok=True)
    with atomic_path(files.document) as path:
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    log_offset(offset)
    return document


def _document(
    query: TextQuery,
    settings: LabelSettings,
    gaussians: GaussianParameters,
    classes: Int64[np.ndarray, " count"],
    instances: Int64[np.ndarray, " count"],
    scores: Float[np.ndarray, " count"],
    capture: SceneFrame | None,
) -> dict[str, Any]:
    """Describes the classes and instances of Gaussians in the frame of the run."""
    entries = []
    instance_colors = distinct_colors(int(instances.max(initial=0)))
    for instance, members in _members(instances):
        class_id = int(classes[members[0]])
        color = _color(instance, instance_colors)
        about = {"instance_id": instance, "class_id": class_id, "class": query.texts[class_id - 1], "color": color}
        score = round(float(scores[members].mean()), 4)
        place = _placed(gaussians.means[torch.from_numpy(members)], capture)
        entries.append({**about, "gaussians": len(members), "score": score, **place})
    own: dict[int, list[int]] = {}
    for entry in entries:
        own.setdefault(entry["class_id"], []).append(entry["instance_id"])
    counts = np.bincount(classes, minlength=len(query.texts) + 1).tolist()
    colors = distinct_colors(len(query.texts))
    return {
        "format": LABELS_FORMAT,
        "capture_frame": None if capture is None else {"transform": capture.transform.tolist(), "scale": capture.scale},
        "box": "principal axes of the centers",
        "settings": asdict(settings),
        "classes": [
            {
                "class_id": number,
                "name": name,
                "color": _color(number, colors),
                "gaussians": counts[number],
                "instances": own.get(number, []),
            }
            for number, name in enumerate((UNLABELED, *query.texts))
        ],
        "instances": entries,
    }


def _members(ids: Int64[np.ndarray, " count"]) -> list[tuple[int, Int64[np.ndarray, " members"]]]:
    """Returns every number from 1 with the rows that have it."""
    order = np.argsort(ids, kind="stable")
    numbers, starts = np.unique(ids[order], return_index=True)
    groups = np.split(order, starts[1:])
    return [(int(number), rows) for number, rows in zip(numbers, groups, strict=True) if number > 0]


def _placed(points: Float[Tensor, "count 3"], capture: SceneFrame | None) -> dict[str, Any]:
    """Describes where Gaussians are, in the frame of the run and in that of the input poses if it is known."""
    box, centroid = PrincipalBox.around(points), points.double().mean(dim=0)
    placed: dict[str, Any] = {"centroid": {"run": centroid.tolist()}, "box": {"run": box.numbers}}
    if capture is not None:
        back = capture.inverse
        rotation, translation = back.transform[:, :3].double(), back.transform[:, 3].double()
        placed["centroid"]["capture"] = (back.scale * (rotation @ centroid + translation)).tolist()
        placed["box"]["capture"] = box.moved(rotation, translation, back.scale).numbers
    return placed


def _color(number: int, colors: UInt8[np.ndarray, "count 3"]) -> list[int]:
    return list(UNLABELED_COLOR) if number == 0 else colors[number - 1].tolist()


def _recolored(gaussians: GaussianParameters, ids: Int64[np.ndarray, " count"]) -> GaussianParameters:
    """Returns Gaussians in the color of their number, the same from all sides."""
    table = np.concatenate([[UNLABELED_COLOR], distinct_colors(int(ids.max(initial=0)))]).astype(np.float32) / 255
    constant = (torch.from_numpy(table[ids]) - 0.5) / HARMONIC
    return replace(gaussians, features_dc=constant, features_rest=gaussians.features_rest[:, :0])
