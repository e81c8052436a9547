"""Finds the cameras that a scene has, by the files in its folder."""

from __future__ import annotations

from pathlib import Path

MODEL_FOLDERS = ("colmap/sparse/0", "sparse/0", "colmap/sparse", "sparse", "colmap", ".")
"""Where COLMAP's models are looked for, relative to the folder of the scene, in this order."""


def find_model(root: Path, preferred: Path | None = None) -> Path | None:
    """Returns the folder of the model relative to `root`: the preferred one, or the first usual one with a model."""
    candidates = [] if preferred is None else [preferred]
    return next((folder for folder in (*candidates, *map(Path, MODEL_FOLDERS)) if _has_model(root / folder)), None)


def has_cameras(root: Path) -> bool:
    """Whether a folder has a transforms.json or a model of COLMAP."""
    return root.is_dir() and ((root / "transforms.json").is_file() or find_model(root) is not None)


def _has_model(folder: Path) -> bool:
    return any((folder / f"cameras{suffix}").is_file() for suffix in (".txt", ".bin"))
