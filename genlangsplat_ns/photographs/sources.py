"""Finds the photographs of a folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.photographs import PICTURE_SUFFIXES

LOGGER = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".3gp", ".mpg", ".mpeg", ".wmv")

HEIC_SUFFIXES = (".heic", ".heif")

RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")

FEWEST = 3
"""Two photographs give cameras, but hardly a scene."""

MASK_FOLDER = "masks"

DOWNSCALED = re.compile(r"(.+)_[248]")
"""Name of a folder that may have downscaled copies of the photographs in another folder."""


@dataclass(frozen=True)
class FoundPhotographs:
    """Photographs below a folder."""

    root: Path
    names: tuple[str, ...]
    """Paths below the root with slashes, in natural order: 2 before 10."""
    masks: Path | None = None
    """Folder of their masks."""


def is_video(path: Path) -> bool:
    """Whether a path is a video file, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_photographs(folder: Path, output: Path, masks: Path | None = None) -> FoundPhotographs:
    """Finds the photographs below a folder; hidden files, masks, downscaled copies and the output do not count.

    The root is the deepest folder that holds all of them. Masks are looked for in the given folder, or in `masks` in
    the folder, in the root or beside the root.

    Raises:
        GenLangSplatError: The folder does not exist, has too few photographs, or has photographs that cannot be read.
    """
    if not folder.exists():
        raise GenLangSplatError(f"{folder} does not exist. Give a folder of photographs, or a video.")
    if not folder.is_dir():
        raise GenLangSplatError(
            f"{folder} is neither a folder nor a video ({', '.join(VIDEO_SUFFIXES)}). Give a folder of photographs, or "
            "a video."
        )
    given = None if masks is None else _given_masks(folder, masks)
    files = list(_files(folder, [output] if given is None else [output, given]))
    pictures = [path for path in files if _is_picture(path)]
    _refuse_unread(folder, files, pictures)
    if len(pictures) < FEWEST:
        raise GenLangSplatError(_too_few(folder, files, pictures))
    root = Path(os.path.commonpath([path.parent for path in pictures]))
    names = sorted((path.relative_to(root).as_posix() for path in pictures), key=natural_order)
    return FoundPhotographs(root, tuple(names), given or _usual_masks(folder, root))


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """Returns a sort key by which numbers in names are compared as numbers, and come before letters."""
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _files(folder: Path, left_out: Sequence[Path]) -> Iterator[Path]:
    """Yields the files below a folder that may be photographs."""
    # Also what was seen, because links may lead back.
    outside = {path.resolve() for path in (folder, *left_out)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = Path(parent, name).resolve()
            if name.startswith(".") or name == MASK_FOLDER or path in outside or _has_copies(Path(parent), name):
                continue
            outside.add(path)
            kept.append(name)
        folders[:] = kept
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def _has_copies(parent: Path, name: str) -> bool:
    """Whether a folder has downscaled copies of the photographs in the folder beside it, which have the same names."""
    copies = DOWNSCALED.fullmatch(name)
    if copies is None or not (parent / copies[1]).is_dir():
        return False
    own, others = (
        {path.relative_to(folder).with_suffix("") for path in folder.rglob("*") if _is_picture(path)}
        for folder in (parent / name, parent / copies[1])
    )
    if not own or not own <= others:
        return False
    LOGGER.info("Left out %s, whose photographs have the names of those in %s.", parent / name, copies[1])
    return True


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES


def _refuse_unread(folder: Path, files: Sequence[Path], pictures: Sequence[Path]) -> None:
    """Raises an error for photographs in formats that are not read, unless each is there in another format too."""
    converted = {path.with_suffix("") for path in pictures}
    unread = [
        path
        for path in files
        if path.suffix.lower() in (*HEIC_SUFFIXES, *RAW_SUFFIXES) and path.with_suffix("") not in converted
    ]
    if not unread:
        return
    first = unread[0]
    if first.suffix.lower() in HEIC_SUFFIXES:
        how = (
            f"`mogrify -format jpg {quote(str(first.parent))}/*{first.suffix}` (apt-get install imagemagick "
            "libheif-plugin-libde265); an iPhone takes JPEG with Settings, Camera, Formats, Most Compatible"
        )
    else:
        how = "the program that develops your raw files, for example darktable or RawTherapee"
    raise GenLangSplatError(
        f"{len(unread)} photographs in {folder} are {first.suffix[1:].upper()} files, which are not read, for example "
        f"{first.name}. Convert them to JPEG with {how}."
    )


def _too_few(folder: Path, files: Sequence[Path], pictures: Sequence[Path]) -> str:
    """Returns the message about a folder with too few photographs."""
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if videos and not pictures:
        return f"{folder} has {len(videos)} videos and no photographs. Give one video: {quote(str(videos[0]))}."
    if pictures:
        return (
            f"{folder} has only {len(pictures)} photographs, expected at least {FEWEST}, better 30 or more from "
            "different places around the scene. Add photographs."
        )
    return (
        f"{folder} has no photographs ({', '.join(PICTURE_SUFFIXES)}; found {len(files)} other files). Give a folder "
        "of photographs, or a video."
    )


def _given_masks(folder: Path, masks: Path) -> Path:
    """Returns the folder of masks that was given, also relative to the folder of the photographs."""
    place = next((path for path in (masks, folder / masks) if path.is_dir()), None)
    if place is None:
        raise GenLangSplatError(f"The folder of masks {masks} does not exist. Correct --masks.")
    return place


def _usual_masks(folder: Path, root: Path) -> Path | None:
    places = (folder / MASK_FOLDER, root / MASK_FOLDER, root.parent / MASK_FOLDER)
    # Beside the root only if the root is inside of the given folder: what lies further out belongs to others.
    return next((path for path in places if path.is_dir() and path.is_relative_to(folder)), None)
