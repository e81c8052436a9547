"""The site of the documents: links that work on GitHub also work there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_documents import DOCUMENTS, ROOT, name_of

LIST_OR_TABLE = re.compile(r"(?:[-*] |\d+\. |\|)")


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The hook of MkDocs, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("repository_pages", ROOT / "docs/hooks/repository_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_lead_to_the_same_document_on_github_and_in_the_site(hook: ModuleType) -> None:
    readme = "[a](docs/asking.md#modes) ![b](docs/gallery.png) [c](CONTRIBUTING.md) [d](#here) [e](https://x.example)"
    assert hook.with_links_of_site(readme, "index.md") == (
        "[a](asking.md#modes) ![b](gallery.png) [c](contributing.md) [d](#here) [e](https://x.example)"
    )
    page = "[a](../benchmarks/README.md#queries) [b](memory.md) [c](../README.md) [d](../LICENSE)"
    assert hook.with_links_of_site(page, "performance.md") == (
        "[a](benchmarks.md#queries) [b](memory.md) [c](index.md) [d](LICENSE)"
    )
    assert hook.with_links_of_site("[a](../memory.md)", "api/scene.md") == "[a](../memory.md)"


def test_code_is_no_link(hook: ModuleType) -> None:
    text = "`[a](docs/b.md)`\n\n    [c](docs/d.md)\n"
    assert hook.with_links_of_site(text, "index.md") == text
    assert hook.links_in(f"{text}[e](docs/f.md)") == ["docs/f.md"]


def test_an_example_is_a_page_of_its_docstring_and_its_code(hook: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"""Do it.\n\n    run it\n"""\n\nimport os\n')
    assert hook.page_text(tmp_path / "a.py") == "# Do it\n\n    run it\n\n```python\nimport os\n```\n"
    cells = [{"cell_type": "markdown", "source": ["# T\n", "words"]}, {"cell_type": "code", "source": ["f()"]}]
    (tmp_path / "b.ipynb").write_text(json.dumps({"cells": cells}))
    assert hook.page_text(tmp_path / "b.ipynb") == "# T\nwords\n\n```python\nf()\n```\n"


def test_every_document_and_example_of_the_repository_is_a_page(hook: ModuleType) -> None:
    examples = sorted((ROOT / "examples").glob("[0-9]*"))
    pages = {hook.place_in_site(name_of(path)) for path in [*DOCUMENTS, *examples] if ".github" not in path.parts}
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert pages == listed


def glued_blocks(text: str) -> list[str]:
    """First lines of lists and tables that directly follow a paragraph, which Python's Markdown does not see."""
    lines = text.splitlines()
    fenced, glued = False, []
    for before, line in zip(["", *lines], lines, strict=False):
        fenced ^= line.startswith("```")
        ordinary = before.strip() and not before.startswith((" ", "#", "```")) and not LIST_OR_TABLE.match(before)
        if LIST_OR_TABLE.match(line) and ordinary and not fenced:
            glued.append(line)
    return glued


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_lists_and_tables_begin_after_a_blank_line(document: Path) -> None:
    assert glued_blocks(document.read_text(encoding="utf-8")) == []


def test_glued_blocks_are_found() -> None:
    text = "Words:\n- glued\n\n- good\n  more\n- good\n\n```\na\n- code\n```\nWords.\n| glued |\n|---|\n"
    assert glued_blocks(text) == ["- glued", "| glued |"]
