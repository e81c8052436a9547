"""The built page is the one of the sources, and contains nothing of others."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from genlangsplat_ns.web.page_files import PAGE_FOLDER, is_built

WEB = Path(__file__).parents[2] / "web"

SINKS = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser")
"""What would turn a text of a run into markup or code."""


def sources() -> list[Path]:
    """The files that the page is built from."""
    named = [WEB / name for name in ("build.mjs", "package.json", "package-lock.json", "tsconfig.json")]
    return [*named, *(path for path in (WEB / "src").rglob("*") if path.is_file())]


def test_the_built_page_is_up_to_date() -> None:
    found = {path.relative_to(WEB).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sources()}
    built = json.loads((PAGE_FOLDER / "sources.json").read_text(encoding="utf-8"))
    assert built == found, "the sources changed: run `make page` and commit what it builds"


def test_all_files_are_there_and_small() -> None:
    assert is_built()
    assert sum(path.stat().st_size for path in PAGE_FOLDER.iterdir()) < 200_000
    assert "no code of other" in (PAGE_FOLDER / "licenses.txt").read_text(encoding="utf-8").replace("\n", " ")


def test_the_page_asks_nobody_else() -> None:
    for path in PAGE_FOLDER.iterdir():
        addresses = re.findall(r"https?://[^\s\"'`)]+", path.read_text(encoding="utf-8"))
        assert addresses == [], path.name


@pytest.mark.parametrize("path", sorted((WEB / "src").glob("*.ts")), ids=lambda path: path.name)
def test_texts_never_become_markup_or_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [sink for sink in SINKS if sink in text] == []


def test_the_page_has_no_inline_script_or_style() -> None:
    html = (PAGE_FOLDER / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?! src=\"app\.js\" defer></script>)|<style|\son\w+=|\sstyle=", html) == []
