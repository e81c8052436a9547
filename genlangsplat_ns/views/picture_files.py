"""Finds the photographs that a list of cameras names, however the names are spelled."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import is_file
from genlangsplat_ns.utils.photographs import PICTURE_SUFFIXES

MAX_NAME, MAX_FOLDERS = 1024, 64
"""Characters and folders of the name of a picture; longer names are damage."""


class PictureFinder:
    """Finds pictures below a folder.

    A name is looked up as a path below the folder, then below some folders in it; an absolute path also with fewer
    leading folders. At each place its spellings are tried in order: as it is, with slashes for backslashes, in another
    Unicode form or case, with another suffix.
    """

    def __init__(self, root: Path, folders: Sequence[str] = ("images",)) -> None:
        self.root = root
        self._folders = folders
        self._listing = cache(_listing)

    def find(self, name: str) -> Path | None:
        """Returns the picture with this name, or None if there is none."""
        if len(name) > MAX_NAME or name.count("/") > MAX_FOLDERS:
            return None
        if is_file(self.root / name):
            return self.root / name
        return next((found for place in self.places(name) if (found := self._spelled(place)) is not None), None)

    def places(self, name: str) -> Iterator[Path]:
        """Yields the paths that are tried for a name."""
        plain = name.strip().replace("\\", "/")
        parts = [part for part in PurePosixPath(plain).parts if part not in ("/", ".", "..")]
        # A file of another computer names its own folders, of which the last ones may exist here. Below the folder of
        # the scene, folders tell pictures with the same name apart.
        foreign = plain.startswith(("/", "..")) or (bool(parts) and parts[0].endswith(":"))
        starts = len(parts) if foreign else 1 + (len(parts) > 1 and parts[0] in self._folders)
        for start in range(starts):
            below = Path(*parts[start:])
            yield self.root / below
            for folder in self._folders:
                if parts[start] != folder:
                    yield self.root / folder / below

    def describe(self, name: str) -> str:
        """Returns what was tried for a name, for an error message."""
        below = [str(place.relative_to(self.root)) for place in self.places(name)]
        return f"{' and '.join(below[:2])} below {self.root}, also with {', '.join(PICTURE_SUFFIXES[:3])}"

    def _spelled(self, place: Path) -> Path | None:
        """Returns the file at a place in any spelling of its name."""
        if is_file(place):
            return place
        names = self._listing(place.parent)
        if not names:
            return None
        key = _key(place.name)
        spellings = [key, *(key + suffix for suffix in PICTURE_SUFFIXES)]
        if place.suffix:
            stem = key[: -len(place.suffix)]
            spellings += [stem + suffix for suffix in PICTURE_SUFFIXES]
        return next((place.parent / names[spelling] for spelling in spellings if spelling in names), None)


def check_distinct(pictures: Sequence[tuple[str, Path]], source: Path) -> None:
    """Checks that the names of pictures that `source` lists are different pictures.

    Raises:
        GenLangSplatError: Two names are the same picture, for example those of two folders of which only one exists.
    """
    names: dict[Path, str] = {}
    for name, picture in pictures:
        plain = PurePosixPath(name.strip().replace("\\", "/"))
        other = names.setdefault(picture, str(plain))
        if other != str(plain):
            raise GenLangSplatError(
                f"{source} lists {other} and {plain}, but only {picture} was found for both. Restore the folders of "
                "the photographs, or correct their names."
            )


def _listing(folder: Path) -> dict[str, str]:
    """Returns the files of a folder by their key."""
    try:
        if not folder.is_dir():
            return {}
    except (OSError, ValueError):
        return {}
    return {_key(path.name): path.name for path in sorted(folder.iterdir(), reverse=True) if path.is_file()}


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
