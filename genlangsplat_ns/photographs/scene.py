"""Makes a scene of photographs or a video."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.colmap import Colmap, import_pycolmap
from genlangsplat_ns.photographs.lock import LOCK_FILE
from genlangsplat_ns.photographs.outcome import FEW_FEATURES, Outcome
from genlangsplat_ns.photographs.prepare import prepare_photographs
from genlangsplat_ns.photographs.reconstruct import MakeSolver, SceneFolder, reconstruct
from genlangsplat_ns.photographs.settings import PhotographSettings
from genlangsplat_ns.photographs.sources import find_photographs, is_video
from genlangsplat_ns.photographs.video import extract_frames
from genlangsplat_ns.utils.files import atomic_path, check_new_file, file_sha256
from genlangsplat_ns.utils.json_files import object_of, read_json

SOURCE_FILE = "source.json"
"""File in the work folder of a scene that names its photographs or video."""

SMALLEST_SIDE = 200


def make_scene(
    source: Path, output: Path, settings: PhotographSettings, make_solver: MakeSolver | None = None
) -> tuple[Outcome, str]:
    """Makes a scene of the photographs in a folder or of a video; continues a former call that was interrupted.

    Args:
        source: Folder or video.
        output: Folder of the scene.
        settings: How photographs become a scene.
        make_solver: What finds the cameras; None for COLMAP.

    Returns:
        What became of the photographs, and a name that changes with the cameras.

    Raises:
        GenLangSplatError: The source is unusable, the output belongs to something else, pycolmap or ffmpeg is missing,
            or no photograph could be given a camera.
    """
    if settings.max_image_side < SMALLEST_SIDE:
        raise GenLangSplatError(
            f"--max-image-side is {settings.max_image_side}; expected at least {SMALLEST_SIDE}. Raise it."
        )
    if settings.max_features < FEW_FEATURES:
        raise GenLangSplatError(
            f"--max-features is {settings.max_features}; expected at least {FEW_FEATURES}. Raise it."
        )
    if make_solver is None:
        import_pycolmap()
        make_solver = Colmap
    folder, video = SceneFolder(output), is_video(source) and source.is_file()
    found = None if video else find_photographs(source, output, settings.masks)
    _claim(folder, source)
    _remove_unfinished(folder.work)
    if found is None:
        frames = folder.work / "frames"
        extract_frames(source, frames, settings.frames)
        found = find_photographs(frames, output / "images", settings.masks)
    record = folder.work / "photographs.json"
    photographs = prepare_photographs(found, folder.images, folder.masks, settings.max_image_side, record)
    outcome = reconstruct(photographs, folder, settings, video, make_solver)
    return outcome, file_sha256(output / "transforms.json")[:8]


def _claim(folder: SceneFolder, source: Path) -> None:
    """Checks that the folder of the scene is new or belongs to this source, and writes down that it does."""
    marker, own = folder.work / SOURCE_FILE, str(source.resolve())
    if marker.is_file():
        try:
            other = object_of(read_json(marker), "the file").get("source", "something else")
        except ValueError:
            other = "something else"
        if other != own:
            raise GenLangSplatError(
                f"{folder.root} is the scene of {other}. Name another folder with --output-dir, or remove it."
            )
        return
    if folder.root.exists() and (
        not folder.root.is_dir() or any(path.name != LOCK_FILE for path in folder.root.iterdir())
    ):
        raise GenLangSplatError(
            f"{folder.root} exists, and is no scene of this command. Name another folder with --output-dir."
        )
    check_new_file(marker, overwrite=True)
    with atomic_path(marker) as temporary:
        temporary.write_text(json.dumps({"source": own}), encoding="utf-8")


def _remove_unfinished(work: Path) -> None:
    """Removes hidden files and folders, under whose names `utils.files` writes, and which a killed process leaves."""
    for path in work.glob(".*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
