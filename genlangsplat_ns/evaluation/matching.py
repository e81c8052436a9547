"""Finds the labels of views by the names of their photographs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_files import without_image_suffix
from genlangsplat_ns.evaluation.labels import ViewLabels

_ROBOFLOW = re.compile(r"(?P<stem>.+)_[A-Za-z]{3,4}\.rf\.\w+")
"""Roboflow renames `frame_1.jpg` to `frame_1_jpg.rf.HASH.jpg`."""

_LABEL_STUDIO = re.compile(r"[0-9a-f]{8}-(?P<stem>.+)")
"""Label Studio renames uploaded files: `frame_1.jpg` to `1a2b3c4d-frame_1.jpg`."""


@dataclass(frozen=True, eq=False)
class MatchedViews:
    """Views with their labels, and what remained: `unmatched` labels of views that are not there."""

    pairs: tuple[tuple[Any, ViewLabels], ...]
    unmatched: tuple[str, ...]


class _Fit(NamedTuple):
    """How well labels name a view; the better fit is the larger one."""

    parts: int
    """Number of parts at the end of the view's path that the labels state, in the best of three ways."""
    exact: bool
    """Whether the path of the photograph in the labels, or that of their file, is the path of the view."""
    whole: bool
    """Whether all parts of the view's path are among these parts."""
    suffix: bool
    """Whether the file names are equal, not only their stems."""
    by_name: int
    """Number of these parts in the name of the photograph in the labels."""
    by_key: int
    """The same in the path of the label file below its folder."""
    by_place: int
    """The same with the path of the folder before it."""

    @property
    def rank(self) -> tuple[int, bool, bool, bool]:
        """What decides between fits."""
        return self[:4]


def match_views(views: Sequence[Any], labels: Mapping[str, ViewLabels], folder: Path | None = None) -> MatchedViews:
    """Finds the labels of views by the names of the photographs, never by numbers, which change with the split.

    The file name must be that of the photograph, with or without suffix. If photographs in several folders have it,
    then the folders decide: those in the name that the labels state, those of the label file below `folder`, or the
    name of `folder` itself. Labels that name a folder of no such view are left over where other labels name folders of
    views. Views without labels are ignored; of two views of one photograph, the first counts.

    The labels are given by the path of their file below `folder` or that of the photograph, with or without suffix.
    `folder` is None if it says nothing.

    Raises:
        GenLangSplatError: If labels fit several views, or two labels fit one view.
    """
    unique: dict[str, Any] = {}
    by_stem: dict[str, list[str]] = defaultdict(list)
    for view in views:
        if view.name not in unique:
            unique[view.name] = view
            by_stem[PurePosixPath(view.name).stem].append(view.name)
    above = () if folder is None else folder.resolve().parts
    fits = {key: _fits(key, view_labels.name, above, by_stem) for key, view_labels in labels.items()}
    chosen = _choose(fits, {key: view_labels.name for key, view_labels in labels.items()})
    pairs, used = [], set()
    for name in (name for name in unique if name in chosen):
        best = max(fit.rank for fit in chosen[name].values())
        keys = sorted(key for key, fit in chosen[name].items() if fit.rank == best)
        if len(keys) > 1:
            raise GenLangSplatError(
                f"The labels {keys[0]} and {keys[1]} both fit the view {name}. Keep one of them, or give the folder "
                "that has only the labels of this scene."
            )
        used.add(keys[0])
        pairs.append((unique[name], labels[keys[0]]))
    return MatchedViews(tuple(pairs), tuple(sorted(set(labels) - used)))


def _choose(fits: Mapping[str, Mapping[str, _Fit]], photographs: Mapping[str, str]) -> dict[str, dict[str, _Fit]]:
    """Chooses the view that each of the labels fits best; returns the labels of each view."""
    every = [fit for found in fits.values() for fit in found.values()]
    names_speak, keys_speak = any(fit.by_name > 1 for fit in every), any(fit.by_key > 1 for fit in every)
    folder_speaks = any(fit.by_place > max(1, fit.by_key) for fit in every)
    chosen: dict[str, dict[str, _Fit]] = defaultdict(dict)
    for key, found in fits.items():
        elsewhere = folder_speaks or (names_speak and "/" in photographs[key]) or (keys_speak and "/" in key)
        usable = {name: fit for name, fit in found.items() if fit.whole or fit.parts > 1 or not elsewhere}
        best = max((fit.rank for fit in usable.values()), default=None)
        names = sorted(name for name, fit in usable.items() if fit.rank == best)
        if len(names) > 1:
            shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            raise GenLangSplatError(
                f"The labels {key} fit {len(names)} views: {shown}. Say which one: put the labels into a subfolder as "
                f'"{PurePosixPath(names[0]).with_suffix(".json")}", or write "{names[0]}" as the name of the picture '
                "in the label file (info.name, imagePath or file_name)."
            )
        for name in names:
            chosen[name][key] = usable[name]
    return chosen


def _fits(key: str, photograph: str, above: tuple[str, ...], by_stem: Mapping[str, Sequence[str]]) -> dict[str, _Fit]:
    """Returns how well labels fit each view whose file name they have.

    The name of the photograph counts if its file name is that of the key.
    """
    files = [PurePosixPath(path).name for path in (photograph, key)]
    if not {files[0], without_image_suffix(files[0])} & {files[1], without_image_suffix(files[1])}:
        photograph, files = key, files[1:]
    stem = next((stem for stem in _stems(files) if stem in by_stem), None)
    of_name, of_key = PurePosixPath(photograph).parts[:-1], PurePosixPath(key).parts[:-1]
    fits = {}
    for name in [] if stem is None else by_stem[stem]:
        path = PurePosixPath(name)
        by_name, by_key, by_place = (
            1 + _common_end(path.parts[:-1], folders) for folders in (of_name, of_key, (*above, *of_key))
        )
        parts = max(by_name, by_key, by_place)
        exact = bool({photograph, key} & {name, path.with_suffix("").as_posix()})
        fits[name] = _Fit(parts, exact, parts == len(path.parts), path.name in files, by_name, by_key, by_place)
    return fits


def _stems(files: list[str]) -> Iterator[str]:
    """Yields the stems of photographs that file names in labels may mean, the likeliest first."""
    yield from files
    stems = [without_image_suffix(file) for file in files]
    yield from stems
    for renamed in (_ROBOFLOW, _LABEL_STUDIO):
        yield from (found["stem"] for stem in (*stems, *files) if (found := renamed.fullmatch(stem)))


def _common_end(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Returns the number of equal folders at the end of two paths."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
