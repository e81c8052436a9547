"""Copies photographs and masks into a scene: upright, of at most one size, and in formats that every program reads."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageOps

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.exif import ShotData, read_shot_data
from genlangsplat_ns.photographs.sharpness import sharpness
from genlangsplat_ns.photographs.sources import FEWEST, FoundPhotographs
from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.json_files import integer_of, number_of, numbers_of, object_of, read_json, text_of
from genlangsplat_ns.utils.photographs import eight_bit, open_photograph, reading_picture
from genlangsplat_ns.utils.progress import track

LOGGER = logging.getLogger(__name__)

ADVICE = "Replace it, or remove it from the folder of photographs."

ORIENTATION = 0x0112

KEPT_FORMATS = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",)}
"""Formats by Pillow's names, and the suffixes with which their files may stay as they are."""

JPEG_QUALITY = 95

VERSION = 1
"""Changes when the same photographs would be prepared in another way."""


@dataclass(frozen=True)
class PreparedPhotograph:
    """A photograph in the scene."""

    name: str
    """Its path below the folder of photographs, with slashes."""
    width: int
    height: int
    digest: str
    """Hash of its file and its mask."""
    sharpness: float
    shot: ShotData
    mask: str | None = None
    """The path of its mask below the folder of masks."""


def prepare_photographs(
    found: FoundPhotographs, images: Path, masks: Path, max_side: int, record: Path
) -> list[PreparedPhotograph]:
    """Copies photographs to `images` and masks to `masks`, and says in `record` what it copied.

    What a former call with the same source files and size has copied is kept. A photograph that equals an earlier one
    is left out.

    Raises:
        GenLangSplatError: A photograph or mask cannot be read, two photographs get the same name, or too few differ.
    """
    names = {source: prepared_name(source) for source in found.names}
    _check_distinct(names)
    mask_files = _mask_files(found)
    former = read_record(record)
    done: dict[str, dict[str, Any]] = {}
    for source in track(found.names, "Reading photographs"):
        path, mask = found.root / source, mask_files.get(source)
        key = _file_key(path, max_side) + ("" if mask is None else _file_key(mask, max_side))
        entry = former.get(source)
        if entry is None or entry["key"] != key or not _is_there(entry, images, masks):
            entry = {"key": key, **asdict(_prepare(path, mask, names[source], images, masks, max_side))}
        done[source] = entry
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(done), encoding="utf-8")
    _remove_others(images, set(names.values()))
    # COLMAP takes all masks that it finds, also of a photograph that has none any more.
    _remove_others(masks, {entry["mask"] for entry in done.values() if entry["mask"] is not None})
    prepared = [_from_entry(entry) for entry in done.values()]
    return _without_duplicates(prepared)


def prepared_name(source: str) -> str:
    """Returns the name of a photograph in the scene: its own, as .jpg, .jpeg or .png.

    Spaces and # become underscores, because they have a meaning in COLMAP's lists of pairs.
    """
    path = PurePosixPath(re.sub(r"[\s#]", "_", source))
    kept = {suffix for suffixes in KEPT_FORMATS.values() for suffix in suffixes}
    return str(path if path.suffix.lower() in kept else path.with_suffix(".png"))


def _check_distinct(names: dict[str, str]) -> None:
    owners: dict[str, str] = {}
    for source, name in names.items():
        other = owners.setdefault(name.casefold(), source)
        if other != source:
            raise GenLangSplatError(
                f"The photographs {other} and {source} would both be named {name} in the scene. Rename one of them."
            )


def _mask_files(found: FoundPhotographs) -> dict[str, Path]:
    if found.masks is None:
        return {}
    from genlangsplat_ns.views.masks import folder_masks

    masks = folder_masks([found.masks], [Path(name) for name in found.names])
    return {name: mask for name, mask in zip(found.names, masks, strict=True) if mask is not None}


def _file_key(path: Path, max_side: int) -> str:
    """Returns what changes when a file changes, or how it is copied."""
    status = path.stat()
    return f"{VERSION} {path} {status.st_size} {status.st_mtime_ns} {max_side};"


def read_record(record: Path) -> dict[str, dict[str, Any]]:
    """Returns the entries of a former call by source; nothing if the file is missing or not of this program."""
    try:
        entries = object_of(read_json(record), "the file")
        for entry in entries.values():
            text_of(object_of(entry, "an entry").get("key"), "key")
            _from_entry(entry)
    except (OSError, ValueError):
        return {}
    return entries


def _is_there(entry: dict[str, Any], images: Path, masks: Path) -> bool:
    """Whether the copies of a photograph and of its mask exist."""
    return (images / entry["name"]).is_file() and (entry["mask"] is None or (masks / entry["mask"]).is_file())


def _from_entry(entry: dict[str, Any]) -> PreparedPhotograph:
    """Reads the entry of a photograph; raises ValueError if it has other types."""
    shot, mask = object_of(entry.get("shot"), "shot"), entry.get("mask")
    focal, position = shot.get("focal"), shot.get("position")
    latitude_longitude = None if position is None else numbers_of(position, "position", (2,)).tolist()
    return PreparedPhotograph(
        name=_inside(entry.get("name"), "name"),
        width=integer_of(entry.get("width"), "width", 1),
        height=integer_of(entry.get("height"), "height", 1),
        digest=text_of(entry.get("digest"), "digest"),
        sharpness=number_of(entry.get("sharpness"), "sharpness"),
        shot=ShotData(
            text_of(shot.get("camera"), "camera"),
            None if focal is None else number_of(focal, "focal"),
            None if latitude_longitude is None else (latitude_longitude[0], latitude_longitude[1]),
        ),
        mask=None if mask is None else _inside(mask, "mask"),
    )


def _inside(value: Any, name: str) -> str:
    """Returns a path that must lie below the folder it is relative to."""
    path = PurePosixPath(text_of(value, name))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in str(path):
        raise ValueError(f"{name} is {str(path)!r}, expected a path below the folder")
    return str(path)


def _prepare(path: Path, mask: Path | None, name: str, images: Path, masks: Path, max_side: int) -> PreparedPhotograph:
    target = images / name
    with reading_picture(str(path), ADVICE), open_photograph(path) as file:
        shot, kind = read_shot_data(file), file.format
        size = file.size
        orientation = file.getexif().get(ORIENTATION, 1)
        turned = ImageOps.exif_transpose(file)
        upright = eight_bit(turned, str(path))
        as_it_is = (
            orientation in (0, 1)
            and max(size) <= max_side
            and file.mode in ("L", "RGB", "RGBA")
            and path.suffix.lower() in KEPT_FORMATS.get(str(kind), ())
        )
    full_size = upright.size
    upright.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    with atomic_path(target) as temporary:
        if as_it_is:
            shutil.copyfile(path, temporary)
        elif target.suffix.lower() == ".png":
            upright.save(temporary)
        else:
            upright.convert("RGB").save(temporary, quality=JPEG_QUALITY, subsampling=0)
    digest = hashlib.sha256(target.read_bytes())
    kept = _kept_pixels(upright, mask, full_size)
    if kept is not None:
        with atomic_path(masks / f"{name}.png") as temporary:
            Image.fromarray(kept.astype(np.uint8) * 255).save(temporary)
        digest.update(np.packbits(kept).tobytes())
    gray = np.asarray(upright.convert("L"))
    width, height = upright.size
    mask_name = f"{name}.png" if kept is not None else None
    return PreparedPhotograph(name, width, height, digest.hexdigest(), sharpness(gray), shot, mask_name)


def _kept_pixels(picture: Image.Image, mask: Path | None, full_size: tuple[int, int]) -> Bool[np.ndarray, "h w"] | None:
    """Returns which pixels count by the mask and the opacity; None if all do."""
    kept = np.ones(picture.size[::-1], bool)
    if picture.mode == "RGBA":
        kept &= np.asarray(picture)[..., 3] > 0
    if mask is not None:
        from genlangsplat_ns.views.masks import read_mask

        kept &= read_mask(mask, full_size, picture.size)
    return None if kept.all() else kept


def _remove_others(folder: Path, names: set[str]) -> None:
    """Removes copies of what is no longer among the sources."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _without_duplicates(photographs: Sequence[PreparedPhotograph]) -> list[PreparedPhotograph]:
    first: dict[str, PreparedPhotograph] = {}
    for photograph in photographs:
        first.setdefault(photograph.digest, photograph)
    left_out = len(photographs) - len(first)
    if len(first) < FEWEST:
        raise GenLangSplatError(
            f"Only {len(first)} of {len(photographs)} photographs differ, expected at least {FEWEST}. Add photographs "
            "from different places around the scene."
        )
    if left_out:
        LOGGER.warning("Left out %d photographs that equal others.", left_out)
    return list(first.values())
