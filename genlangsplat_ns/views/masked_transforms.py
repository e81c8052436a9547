"""Writes transforms.json again with masks, so that other programs train on what they keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.views.picture_files import PictureFinder
from genlangsplat_ns.views.transforms_file import SPLIT_KEYS


def write_masked_transforms(source: Path, output: Path, masks: Mapping[Path, str]) -> None:
    """Copies a file with poses, with masks for its photographs.

    Photographs, seed points and depths keep their place and are listed by absolute paths. Frames without a mask are
    left out.

    Args:
        source: The transforms.json of the scene.
        output: The copy.
        masks: For the resolved path of each photograph its mask, relative to the folder of the copy.
    """
    document = json.loads(source.read_text(encoding="utf-8-sig"))
    root, finder = source.parent.resolve(), PictureFinder(source.parent)
    frames: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for frame in document["frames"]:
        picture = finder.find(frame["file_path"])
        mask = None if picture is None else masks.get(picture.resolve())
        if picture is None or mask is None:
            continue
        names[frame["file_path"]] = str(picture.resolve())
        places = {key: _absolute(root, frame[key]) for key in ("depth_file_path",) if frame.get(key)}
        frames.append({**frame, **places, "file_path": str(picture.resolve()), "mask_path": mask})
    document |= {"frames": frames}
    if document.get("ply_file_path"):
        document["ply_file_path"] = _absolute(root, document["ply_file_path"])
    for key in SPLIT_KEYS:
        if document.get(key):
            document[key] = [names[name] for name in document[key] if name in names]
    with atomic_path(output) as temporary:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")


def _absolute(root: Path, name: str) -> str:
    return str(root / name.replace("\\", "/"))
