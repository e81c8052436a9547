"""A scene as static files: a page with the scores of given texts, which needs no server of its own and no network."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import SelectionSettings
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.spz import pack_spz
from genlangsplat_ns.utils.files import atomic_folder, check_new_folder, safe_name
from genlangsplat_ns.utils.progress import track
from genlangsplat_ns.web.answers import relevancy_scores
from genlangsplat_ns.web.page_files import INDEX, NEEDED, is_built, read_page
from genlangsplat_ns.web.page_scene import (
    FORMAT,
    SPLATS,
    PageScene,
    describe_page,
    thumbnail,
    thumbnail_name,
    with_degree,
)
from genlangsplat_ns.web.protocol import pack
from genlangsplat_ns.web.settings import ShareSettings
from genlangsplat_ns.web.static_page import POLICY_END, in_one_file, with_policy

SCENE = "scene.json"

POSITION_BITS = 12
"""Fractional bits of the positions, as in files of Niantic's library: in the frame of a run, whose cameras lie within 1
of the origin, a step is 0.00024."""

EFFORT = 9
"""Of the compression."""

FILES = {*NEEDED, SCENE, SPLATS, "licenses.txt", "scores", "thumbnails"}
"""Names of the files and folders of a page."""

TEXTS_AT_A_TIME = 16
"""Number of texts that are scored at a time."""


@dataclass(frozen=True, eq=False)
class SharedPage:
    """A page in memory, ready to be written."""

    name: str
    """Name of the scene."""
    parts: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files by name, in parts with a name for people."""

    @property
    def files(self) -> dict[str, bytes]:
        """All files by name."""
        return {name: data for part in self.parts.values() for name, data in part.items()}

    def single_file(self) -> SharedPage:
        """Returns the same page as one HTML file."""
        html = in_one_file(self.files)
        return SharedPage(self.name, {"one file": {f"{safe_name(self.name)}.html": html}})

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of each part."""
        return {part: sum(map(len, files.values())) for part, files in self.parts.items()}

    def write(self, folder: Path, overwrite: bool = False) -> None:
        """Writes all files; the folder appears when it is complete.

        Raises:
            GenLangSplatError: It exists, and may not or must not be replaced.
        """
        check_shared_folder(folder, overwrite)
        with atomic_folder(folder, overwrite) as temporary:
            for name, data in self.files.items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


def check_shared_folder(folder: Path, overwrite: bool) -> None:
    """Checks before long work that a page can be written to a folder.

    Raises:
        GenLangSplatError: It exists without `overwrite`, holds something else than a shared page, or cannot be written.
    """
    check_new_folder(folder, overwrite)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise GenLangSplatError(f"{folder} is a file. Give a folder.")
    names = sorted(path.name for path in folder.iterdir())
    if names and not _is_shared_page(folder, names):
        raise GenLangSplatError(
            f"Found {names[-1]!r} in {folder}, expected only a page of gen-langsplat share, because --overwrite "
            "replaces the whole folder. Give another --output-dir."
        )


def _is_shared_page(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder with these names holds a page of this module and nothing else."""
    if SCENE in names:
        return set(names) <= FILES and FORMAT in (folder / SCENE).read_text(encoding="utf-8", errors="replace")[:100]
    if len(names) > 1 or not names[0].endswith(".html"):
        return False
    with (folder / names[0]).open("rb") as file:
        return POLICY_END.encode() in file.read(4096)


def make_shared_page(
    scene: LanguageScene,
    texts: TextQuery,
    vocabulary: TextQuery | None = None,
    settings: ShareSettings | None = None,
    selection: SelectionSettings | None = None,
    page_folder: Path | None = None,
) -> SharedPage:
    """Makes the page of a scene in memory.

    Args:
        scene: The opened run.
        texts: The texts that the page offers, and how they are scored.
        vocabulary: Further texts, which the search box of the page finds.
        settings: What the page contains.
        selection: How Gaussians are selected.
        page_folder: The built page; None for that of the package.

    Raises:
        GenLangSplatError: The page is not built, or a text cannot be embedded.
    """
    if not is_built(page_folder):
        raise GenLangSplatError("Found a clone without the built page. Run `make page` in it first.")
    settings = settings or ShareSettings()
    page = PageScene.compact(scene, settings.max_gaussians)
    code = read_page(page_folder)
    gaussians = with_degree(page.gaussians(), settings.sh_degree)
    parts = {
        "page": {**code, INDEX: with_policy(code[INDEX])},
        "splats": {SPLATS: pack_spz(gaussians, page.antialiased, POSITION_BITS, EFFORT)},
    }
    answers: list[dict[str, str]] = []
    for part, query in (("texts", texts), ("vocabulary", vocabulary)):
        if query is None:
            continue
        parts[part] = {}
        for text, data in _packed_scores(page, query):
            name = f"scores/{len(answers)}.bin"
            parts[part][name] = data
            answers.append({"text": text, "file": name, "list": part})
    views = page.views() if settings.photographs else []
    if views:
        pictures = track(views, "Reading photographs", len(views))
        parts["photographs"] = {thumbnail_name(number): thumbnail(scene, view) for number, view in enumerate(pictures)}
    document = describe_page(page, texts, selection or SelectionSettings(), thumbnails=bool(views))
    parts["page"][SCENE] = json.dumps(document | {"answers": answers}, ensure_ascii=False).encode()
    return SharedPage(scene.title, parts)


def _packed_scores(page: PageScene, query: TextQuery) -> Iterator[tuple[str, bytes]]:
    """Yields each text of a query with its scores as a compressed file."""
    batches = page.scene.embed(query).batches(TEXTS_AT_A_TIME)
    for batch in track(batches, "Scoring texts", len(batches)):
        for scores in relevancy_scores(page, batch):
            yield scores.text, gzip.compress(pack("relevancy", [scores]), EFFORT, mtime=0)


def vocabulary_query(words: Sequence[str], texts: TextQuery) -> TextQuery:
    """Makes the query of a vocabulary, scored like the texts, without these and without their negatives.

    Raises:
        GenLangSplatError: No word is left, or one is too long.
    """
    known = {text.casefold() for text in (*texts.texts, *texts.negatives)}
    words = [word for word in words if word.casefold() not in known]
    if not words:
        raise GenLangSplatError("Found no word in the vocabulary that is not among the texts. Give other words.")
    return replace(texts, texts=tuple(words))
