"""Checks that a folder holds a scene, and says what it holds instead."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import PICTURE_SUFFIXES
from genlangsplat_ns.views.model_folders import has_cameras


def check_scene_folder(data: Path, poses: Path | None) -> None:
    """Raises an error if there are no data to read, or none of the poses that nerfstudio's format has in a file."""
    if not data.exists():
        raise GenLangSplatError(
            f"The data folder {data} does not exist. Give a folder of posed photographs with --data."
        )
    if data.is_file() and data.suffix != ".json":
        raise GenLangSplatError(
            f"The data {data} are a file; expected the folder of a scene. Unpack it if it is an archive, and give the "
            "folder with --data."
        )
    if data.is_dir() and not any(data.iterdir()):
        raise GenLangSplatError(f"The data folder {data} is empty. Expected posed photographs. {_advice(data)}")
    if poses is not None and not poses.is_file():
        raise GenLangSplatError(f"{data} has no transforms.json and no COLMAP model (sparse/0). {_advice(data)}")


def _advice(data: Path) -> str:
    """Returns what to do about a folder that is no scene."""
    inside = [path for path in sorted(data.iterdir()) if path.is_dir()] if data.is_dir() else []
    scenes = [path for path in inside if has_cameras(path)]
    if scenes:
        return f"A folder in it has: give --data {quote(str(scenes[0]))}."
    folders = [folder for folder in (data, *inside) if folder.is_dir() and _has_pictures(folder)]
    source = quote(str(folders[0])) if folders else "PHOTOS"
    return (
        "Compute the cameras of photographs with "
        f"`gen-langsplat from-photos {source} --output-dir {quote(f'{data}-scene')}`, or choose another data "
        "format: its name, for example blender-data, at the end in ns-train, --data-format NAME in other commands."
    )


def _has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in PICTURE_SUFFIXES for path in folder.iterdir())
