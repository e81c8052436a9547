"""File names for views, whose names are paths with folders."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from genlangsplat_ns.utils.files import safe_name

LONGEST = 80
"""Maximum number of characters of a path in a file name; the end of a longer path is kept."""


def without_suffix(name: str) -> str:
    """Returns the path of a view without the suffix of its file."""
    return PurePosixPath(name).with_suffix("").as_posix()


def flat_name(path: str) -> str:
    """Returns a path as a part of a file name; a path without folders is unchanged."""
    return path if "/" not in path else path.replace("/", "-")[-LONGEST:]


def answer_stems(views: Sequence[tuple[str, str]], texts: Sequence[str]) -> list[list[str]]:
    """Returns a file name without ending per view (split and name) and text; no two are equal, even regardless of case.

    A view is called by its split and the stem of its file. Where this is not unique, the folders are added, then the
    suffix of the file, then a hash of the whole name.
    """
    endings = [f"{number}-{safe_name(text)}" for number, text in enumerate(texts)]
    before: Counter[tuple[str, str]] = Counter()
    forms = []
    for view in views:
        forms.append(_forms(*view, before[view]))
        before[view] += 1
    chosen = [0] * len(views)
    while True:
        stems = [[f"{form[level]}-{ending}" for ending in endings] for form, level in zip(forms, chosen, strict=True)]
        owners = defaultdict(set)
        for index, own in enumerate(stems):
            for stem in own:
                owners[unicodedata.normalize("NFC", stem).casefold()].add(index)
        clashing = {index for shared in owners.values() if len(shared) > 1 for index in shared}
        unsettled = [index for index in clashing if chosen[index] + 1 < len(forms[index])]
        if not unsettled:
            return stems
        for index in unsettled:
            chosen[index] += 1


def _forms(split: str, name: str, repetition: int) -> tuple[str, ...]:
    """Returns ways to call a view, from short to unique; `repetition` counts equal views before it."""
    path, whole = (f"{split}-{flat_name(form)}" for form in (without_suffix(name), name))
    digest = hashlib.sha256(f"{name}\n{repetition}".encode()).hexdigest()[:12]
    return f"{split}-{PurePosixPath(name).stem}", path, whole, f"{path}-{digest}"
