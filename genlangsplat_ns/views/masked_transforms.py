"""Writes transforms.json again with masks, so that other programs train on what they keep."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.views.picture_files import PictureFinder
from genlangsplat_ns.views.transforms_file import COLMAP_TRANSFORM, SPLIT_KEYS

LOGGER = logging.getLogger(__name__)


def write_masked_transforms(source: Path, output: Path, masks: Mapping[Path, str]) -> int:
    """Copies a file with poses, with masks for its photographs.

    Photographs, seed points and depths keep their place and are listed by absolute paths. Frames without a mask are
    left out.

    Args:
        source: The transforms.json of the scene.
        output: The copy.
        masks: For the resolved path of each photograph its mask, relative to the folder of the copy.

    Returns:
        The number of photographs in the copy.
    """
    document = json.loads(source.read_text(encoding="utf-8-sig"))
    root, finder = source.parent.resolve(), PictureFinder(source.parent)
    frames: list[dict[str, Any]] = []
    pictures: set[Path] = set()
    for frame in document["frames"]:
        picture = _resolved(finder, frame["file_path"])
        mask = None if picture is None else masks.get(picture)
        if picture is None or mask is None:
            continue
        pictures.add(picture)
        places = {key: _absolute(root, frame[key]) for key in ("depth_file_path",) if frame.get(key)}
        frames.append({**frame, **places, "file_path": str(picture), "mask_path": mask})
    document |= {"frames": frames}
    if (root / "colmap" / "sparse" / "0").is_dir():
        # Both are known by the model beside the file, which is not beside the copy.
        document.setdefault("applied_transform", COLMAP_TRANSFORM.tolist())
        if not document.get("ply_file_path"):
            LOGGER.warning("%s names no seed points (ply_file_path), so training starts from random points.", output)
    if document.get("ply_file_path"):
        document["ply_file_path"] = _absolute(root, document["ply_file_path"])
    for key in SPLIT_KEYS:
        if document.get(key):
            listed = (_resolved(finder, name) for name in document[key])
            document[key] = [str(picture) for picture in listed if picture in pictures]
    with atomic_path(output) as temporary:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
    return len(frames)


def _resolved(finder: PictureFinder, name: str) -> Path | None:
    picture = finder.find(name)
    return None if picture is None else picture.resolve()


def _absolute(root: Path, name: str) -> str:
    return str(root / name.replace("\\", "/"))
