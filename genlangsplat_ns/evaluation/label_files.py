"""What all formats of label files share: reading JSON, names of photographs, sizes and outlines.

Unusable content raises GenLangSplatError. Below `read_json`, messages do not name the file; `read_label_set` adds it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import LabeledObject, Polygon, ViewLabels
from genlangsplat_ns.utils.files import is_file
from genlangsplat_ns.utils.json_files import read_json as parse_json_file

MAX_FILE_BYTES = 1 << 29
"""Maximum size of a label file; larger ones are no labels of photographs."""

MAX_PIXELS = 1 << 28
"""Maximum number of pixels of a labeled image."""

MAX_COORDINATE = 32_000
"""Maximum absolute value of a coordinate; OpenCV cannot fill outlines with larger ones."""

_TOOL_CLASS = re.compile(r"_+(background|ignore)_+", re.IGNORECASE)

IMAGE_SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png")


def read_json(path: Path) -> Any:
    """Reads a label file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GenLangSplatError(
                f"The labels {path} have more than {MAX_FILE_BYTES >> 20} MiB; expected outlines or compressed masks. "
                "Export them again, or split the file."
            )
        return parse_json_file(path, "utf-8-sig", MAX_FILE_BYTES)
    except OSError as error:
        raise GenLangSplatError(
            f"Cannot read the labels {path}: {error.strerror}. Give a folder of readable label files."
        ) from error
    except ValueError as error:
        raise GenLangSplatError(
            f"The labels {path} are not valid JSON ({error}); expected a label file. Remove or repair it."
        ) from error


def field_of(container: Any, key: str, kind: type, place: str) -> Any:
    """Returns a required entry of the JSON after checking its type."""
    value = container.get(key) if isinstance(container, dict) else None
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "nothing" if value is None else type(value).__name__
        raise GenLangSplatError(f'Found {found} for "{key}" of {place}; expected {kind.__name__}. Correct the file.')
    return value


def category_of(container: Any, key: str, place: str) -> str | None:
    """Returns the category of an object; None for a tool's own class, such as `__background__`, which is no label."""
    number = container.get(key) if isinstance(container, dict) else None
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number)
    category: str = field_of(container, key, str, place).strip()
    if not category:
        raise GenLangSplatError(f"Found a blank category for {place}. Give it a name.")
    return None if _TOOL_CLASS.fullmatch(category) else category


def size_of(container: Any, keys: tuple[str, str], place: str) -> tuple[int, int]:
    """Returns width and height of a labeled image."""
    width, height = (field_of(container, key, int, place) for key in keys)
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise GenLangSplatError(
            f"Found an image size of {width}x{height}; expected positive numbers and at most {MAX_PIXELS:,} pixels. "
            "Correct it, or label smaller images."
        )
    return width, height


def photograph_name(text: str) -> str:
    """Returns the path of a photograph as a label file states it, with "/", and without drive, ".." and address."""
    if "?d=" in text or "://" in text:
        # Label Studio's addresses of local files.
        text = unquote(text.rpartition("?d=")[2])
    parts = text.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part.strip() not in ("", ".", "..") and not part.endswith(":"))


def outline_points(points: Any, place: str) -> Polygon:
    """Returns the corners of an outline, truncated to whole pixels as in the official evaluation of LERF-OVS."""
    try:
        array = np.asarray(points)
    except ValueError:
        # Points with different numbers of coordinates.
        array = np.empty(0, object)
    if (array.size and (array.ndim != 2 or array.shape[1] != 2)) or array.dtype.kind not in "iuf":
        raise GenLangSplatError(f"The outline of {place} is not one list of [x, y] points. Correct it.")
    if not np.isfinite(array).all():
        raise GenLangSplatError(f"The outline of {place} has NaN or infinite coordinates. Correct it.")
    return tuple((float(x), float(y)) for x, y in np.trunc(array.reshape(-1, 2)).tolist())


def outline_problem(polygon: Polygon, width: int, height: int) -> str | None:
    """Returns why an outline covers no pixel of an image of this size; None if it covers one."""
    if len(set(polygon)) < 3:
        return f"{len(set(polygon))} distinct points, an outline needs 3"
    if np.abs(polygon).max() > MAX_COORDINATE:
        return f"its outline has coordinates above {MAX_COORDINATE}"
    x0, y0, x1, y1 = LabeledObject.from_polygon("", polygon).box
    if x1 < 0 or y1 < 0 or x0 > width - 1 or y0 > height - 1:
        return f"its outline is outside the {width}x{height} image"
    return None


def picture_of(path: Path) -> Path | None:
    """Returns the image next to a label file with the same name."""
    return next((found for suffix in IMAGE_SUFFIXES if is_file(found := path.with_suffix(suffix))), None)


def label_paths(folder: Path, pattern: str) -> list[Path]:
    """Returns the files below a folder whose names match, without those that are hidden or that archives leave."""
    return sorted(
        path
        for path in folder.rglob(pattern)
        if path.is_file()
        and not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
    )


def by_view(labels: Sequence[tuple[Path, ViewLabels]], root: Path) -> dict[str, ViewLabels]:
    """Files labels under the folder of their file below `root` and the stem of their photograph.

    Where these are equal, the whole path of the photograph is used, first without and then with its suffix.
    """
    forms = [_keys(path, view, root) for path, view in labels]
    keys = [short for short, *_ in forms]
    for level in (1, 2):
        counts = Counter(keys)
        keys = [form[level] if counts[key] > 1 else key for key, form in zip(keys, forms, strict=True)]
    filed = dict(zip(keys, (view for _, view in labels), strict=True))
    if len(filed) < len(keys):
        index = next(index for index, key in enumerate(keys) if key in keys[:index])
        raise GenLangSplatError(
            f"Found two label files in {root} for the view {forms[index][0]}, one of them {labels[index][0].name}. "
            "Keep one of them."
        )
    return filed


def without_image_suffix(name: str) -> str:
    """Returns a path without the suffix of its file, which contains a letter: `frame.0001` has none."""
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if re.search(r"[A-Za-z]", path.suffix) else name


def _keys(path: Path, view: ViewLabels, root: Path) -> tuple[str, str, str]:
    """Returns keys of a view's labels, from short to unique."""
    folder = path.parent.relative_to(root) if path != root else Path()
    # CVAT's exports have their file in this folder, which says nothing about the photographs.
    place = PurePosixPath(*(part for part in folder.parts if part != "annotations"))
    name = PurePosixPath(view.name)
    whole = name if name.parts[: len(place.parts)] == place.parts else place / name
    short = place / without_image_suffix(name.name)
    return short.as_posix(), without_image_suffix(whole.as_posix()), whole.as_posix()
