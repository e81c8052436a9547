"""Finds the cameras that a scene has, by the files in its folder."""

from __future__ import annotations

import struct
from pathlib import Path

MODEL_FOLDERS = ("colmap/sparse/0", "sparse/0", "colmap/sparse", "sparse", "colmap", ".")
"""Where COLMAP's models are looked for, relative to the folder of the scene, in this order."""

TRANSFORMS_FILES = ("transforms.json", "transforms_train.json")
"""Files with cameras, of nerfstudio and of Blender's data sets."""


def find_model(root: Path, preferred: Path | None = None) -> Path | None:
    """Returns the folder of the model relative to `root`: the preferred one, or the first usual one with a model.

    COLMAP numbers models that are not connected, not always by their size. Of those beside a usual one, the one with
    the most photographs is returned; among equal ones, the first.
    """
    if preferred is not None and _has_model(root / preferred):
        return preferred
    found = next((folder for folder in map(Path, MODEL_FOLDERS) if _has_model(root / folder)), None)
    if found is None:
        return None
    sizes = sizes_of_models(root, found)
    return max(sizes, key=sizes.__getitem__, default=found)


def sizes_of_models(root: Path, model: Path) -> dict[Path, int]:
    """Returns the numbers of photographs of a model and of those beside it, if their names are numbers, in their order.

    Nothing if there is no other.
    """
    if not model.name.isdecimal():
        return {}
    numbers = [path.name for path in (root / model).parent.iterdir() if path.name.isdecimal() and _has_model(path)]
    folders = [model.with_name(number) for number in sorted(numbers, key=int)]
    return {folder: _photograph_count(root / folder) for folder in folders} if len(folders) > 1 else {}


def has_cameras(root: Path) -> bool:
    """Whether a folder has a file with cameras or a model of COLMAP."""
    return root.is_dir() and (any((root / name).is_file() for name in TRANSFORMS_FILES) or find_model(root) is not None)


def _has_model(folder: Path) -> bool:
    return any((folder / f"cameras{suffix}").is_file() for suffix in (".txt", ".bin"))


def _photograph_count(model: Path) -> int:
    """Returns the number of photographs of a model, text before binary; 0 if its file cannot be read."""
    try:
        if (model / "cameras.txt").is_file():
            # An image has two lines, of which the second one may be empty.
            lines = [line for line in (model / "images.txt").read_bytes().splitlines() if not line.startswith(b"#")]
            return (len(lines) + 1) // 2
        with (model / "images.bin").open("rb") as file:
            return int(struct.unpack("<Q", file.read(8))[0])
    except (OSError, struct.error):
        return 0
