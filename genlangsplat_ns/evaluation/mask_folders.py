"""Labels as masks in files: a folder per view, in it a picture per class, white where the class is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import LabeledMask, Mask, ViewLabels
from genlangsplat_ns.utils.photographs import eight_bit, reading_picture

CLASSES_FILE = "classes.txt"


def read_ovs3d(folder: Path) -> dict[str, ViewLabels]:
    """Reads the `segmentations` folder of a 3D-OVS scene: `classes.txt` and `VIEW/CLASS.png`.

    Raises:
        GenLangSplatError: If the class list is empty or ambiguous, or the masks are unusable (see `read_mask_folder`).
    """
    return read_mask_folder(folder, read_classes(folder / CLASSES_FILE))


def read_classes(path: Path) -> tuple[str, ...]:
    """Reads a list of classes, one a line; blank lines are left out.

    Raises:
        GenLangSplatError: If the file is unreadable, holds no class, or holds one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GenLangSplatError(f"Cannot read the class list {path} ({error}). Expected one class a line.") from error
    classes = tuple(line.strip() for line in lines if line.strip())
    if not classes:
        raise GenLangSplatError(f"The class list {path} is empty; expected one class a line, so nothing can be asked.")
    _classes_by_file(classes, path)
    return classes


def read_mask_folder(folder: Path, classes: Sequence[str] | None = None) -> dict[str, ViewLabels]:
    """Reads `VIEW/CLASS.png` for every view, keyed by the name of its folder, the stem of the view's picture.

    A pixel belongs to the class when it is brighter than half of the brightest one, so files of 0 and 1 and of 0 and
    255 mean the same. A file matches a class whatever its case and Unicode form, and whatever stands for the blanks and
    slashes that file names cannot hold. Files of no listed class and masks without a pixel are skipped and named.

    Args:
        folder: The folder of the views' folders.
        classes: The classes that count; None takes every file as a class of its own name.

    Raises:
        GenLangSplatError: If there is no mask, one cannot be read, two are of the same class and view, or the masks of
            a view differ in size.
    """
    by_file = None if classes is None else _classes_by_file(classes, folder)
    views = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    labels = {path.name: found for path in views if (found := _read_view(path, by_file)) is not None}
    if not labels:
        raise GenLangSplatError(
            f"Found no mask in {folder}; expected a folder per view and in it one CLASS.png per class."
        )
    return labels


def _read_view(folder: Path, by_file: Mapping[str, str] | None) -> ViewLabels | None:
    """The masks of one view; None when its folder holds none."""
    objects: dict[str, LabeledMask] = {}
    skipped = []
    size: tuple[int, int] | None = None
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        category = name if by_file is None else by_file.get(_file_key(name))
        if category is None:
            skipped.append(f"{folder.name}/{name}.png: no class of {CLASSES_FILE} has this name")
            continue
        if category in objects:
            raise GenLangSplatError(f"Found two masks of {category} for the view {folder}; keep one of them.")
        mask = _read_mask(path)
        height, width = mask.shape
        if size is not None and size != (width, height):
            raise GenLangSplatError(
                f"The mask {path} has {width}x{height} pixels, the others of this view {size[0]}x{size[1]}. Masks of a "
                "view lie over the same picture; export it anew."
            )
        size = (width, height)
        if mask.any():
            objects[category] = LabeledMask(category, mask)
        else:
            skipped.append(f"{folder.name}/{name}.png: the mask has no pixel")
    if size is None:
        if skipped:
            raise GenLangSplatError(
                f"None of the {len(skipped)} masks in {folder} has the name of a class ({skipped[0]}). They belong to "
                "another data set, or the class list does."
            )
        return None
    return ViewLabels(folder.name, *size, tuple(objects.values()), tuple(skipped))


def _read_mask(path: Path) -> Mask:
    advice = "Replace it, or take it out of the folder."
    with reading_picture(str(path), advice), Image.open(path) as file:
        brightness = np.array(eight_bit(file, str(path)).convert("L"))
    return brightness > brightness.max() / 2


def _classes_by_file(classes: Sequence[str], source: Path) -> dict[str, str]:
    """The classes by what is left of them in a file name."""
    found: dict[str, str] = {}
    for name in classes:
        key = _file_key(name)
        if key in found:
            raise GenLangSplatError(
                f'The classes "{found[key]}" and "{name}" of {source} would have the same file; name them differently.'
            )
        found[key] = name
    return found


def _file_key(name: str) -> str:
    """A name without what file systems change: case, Unicode form, and all that is no letter or digit."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", "-", plain).strip("-") or plain
