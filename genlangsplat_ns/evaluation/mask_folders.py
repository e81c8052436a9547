"""Labels as mask files: one folder per view with one image per class, bright where the class is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import LabeledMask, Mask, ViewLabels
from genlangsplat_ns.utils.photographs import eight_bit, open_picture, reading_picture

CLASSES_FILE = "classes.txt"

MAX_PIXELS = 100_000_000
"""The most pixels of a mask, whose file may be tiny."""


def read_mask_folder(folder: Path) -> dict[str, ViewLabels]:
    """Reads `VIEW/CLASS.png` for every view, keyed by the path of its folder, whose name is the stem of its photograph.

    The folders of views lie in subfolders if no folder at the top has a mask directly.

    A pixel belongs to the class if it is brighter than half of the brightest pixel, so files of 0 and 1 are equivalent
    to files of 0 and 255. File names match the classes in `classes.txt`, which 3D-OVS has, regardless of case, Unicode
    form and the characters that replace spaces and slashes; without this list, every file is a class of its own name.
    Files without a listed class and empty masks are skipped and listed in `skipped`.

    Raises:
        GenLangSplatError: If no mask exists or one is unreadable, a view has masks of two sizes or two of a class, or
            the class list is empty or ambiguous.
    """
    classes = folder / CLASSES_FILE
    by_file = _read_classes(classes) if classes.is_file() else None
    labels = {
        name: found
        for path in _view_folders(folder)
        if (found := _read_view(path, (name := path.relative_to(folder).as_posix()), by_file)) is not None
    }
    if not labels:
        raise GenLangSplatError(
            f"Found no mask in {folder}; expected one folder per view with one CLASS.png per class. Give the folder "
            "that has them."
        )
    return labels


def has_masks(folder: Path) -> bool:
    """Whether there is a PNG file in a subfolder."""
    return any(any(_masks_in(path)) for path in _view_folders(folder))


def _view_folders(folder: Path) -> list[Path]:
    """Returns the folders of the views; a folder below that of a view belongs to the name of a class."""
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]
    if not below or any(any(path.glob("*.png")) for path in below):
        return below
    return [view for path in below for view in (_view_folders(path) or [path])]


def _masks_in(folder: Path) -> Iterator[Path]:
    """Yields the masks of a view; macOS leaves other files named `._CLASS.png` in archives."""
    return (path for path in sorted(folder.rglob("*.png")) if not path.name.startswith("."))


def _read_view(folder: Path, view: str, by_file: Mapping[str, str] | None) -> ViewLabels | None:
    """Reads the masks of one view; returns None if its folder has none."""
    objects: dict[str, LabeledMask] = {}
    skipped = []
    size: tuple[int, int] | None = None
    for path in _masks_in(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        category = name if by_file is None else by_file.get(_file_key(name))
        if category is None:
            skipped.append(f"{view}/{name}.png: no class of {CLASSES_FILE} has this name")
            continue
        if category in objects:
            raise GenLangSplatError(f"Found two masks of {category} for the view {folder}. Keep one of them.")
        mask = _read_mask(path)
        height, width = mask.shape
        if size is not None and size != (width, height):
            raise GenLangSplatError(
                f"The mask {path} has {width}x{height} pixels, but the others of this view have {size[0]}x{size[1]}; "
                "expected masks of the same image. Export it again."
            )
        size = (width, height)
        if mask.any():
            objects[category] = LabeledMask(category, mask)
        else:
            skipped.append(f"{view}/{name}.png: the mask is empty")
    if size is None:
        if skipped:
            raise GenLangSplatError(
                f"None of the {len(skipped)} masks in {folder} has the name of a class ({skipped[0]}). The masks or "
                "the class list belong to another data set; replace one of them."
            )
        return None
    return ViewLabels(view, *size, tuple(objects.values()), tuple(skipped))


def _read_mask(path: Path) -> Mask:
    with reading_picture(str(path), "Replace it or remove it from the folder."), open_picture(path, MAX_PIXELS) as file:
        brightness = np.array(eight_bit(file, str(path)).convert("L"))
    bright: Mask = brightness > brightness.max() / 2
    return bright


def _read_classes(path: Path) -> dict[str, str]:
    """Reads a list of classes, one per line; returns them by the normalized names of their files."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GenLangSplatError(
            f"Cannot read the class list {path} ({error}); expected a text file with one class per line. Replace it."
        ) from error
    found: dict[str, str] = {}
    for name in filter(None, map(str.strip, lines)):
        key = _file_key(name)
        if key in found:
            raise GenLangSplatError(
                f'The classes "{found[key]}" and "{name}" of {path} map to the same file name. Give them different '
                "names."
            )
        found[key] = name
    if not found:
        raise GenLangSplatError(f"The class list {path} is empty; expected one class per line. Add the classes.")
    return found


def _file_key(name: str) -> str:
    """Normalizes what file systems change: case, Unicode form, and everything that is not a letter or digit."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", "-", plain).strip("-") or plain
