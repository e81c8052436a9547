"""A hook of MkDocs: documents outside docs/ and examples become pages of the site.

Links between them work there and on GitHub.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "pretrain/README.md": "pretrain.md",
    **{
        path.relative_to(ROOT).as_posix(): f"examples/{path.stem}.md" for path in sorted(ROOT.glob("examples/[0-9]*.*"))
    },
}
"""Path in the repository and in the site of each document and example outside docs/."""

_SOURCES = {page: source for source, page in PAGES.items()}

_CODE_OR_LINK = re.compile(r"^(?: {4}|```).*$|`[^`\n]*`|\]\(([^)\s]+)\)", re.MULTILINE)
"""A line of code, a span of code, or the target of a link (group 1)."""


def source_of(page: str) -> str:
    """The path in the repository of a page of the site."""
    return _SOURCES.get(page, f"docs/{page}")


def place_in_site(path: str) -> str:
    """The path in the site of a file of the repository."""
    return PAGES.get(path, path.removeprefix("docs/"))


def linked_file(source: str, target: str) -> str | None:
    """The path in the repository to which a relative link of a document leads; None for addresses and anchors."""
    path = target.partition("#")[0]
    if not path or re.match(r"[a-z]+:", target):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path))


def links_in(markdown: str) -> list[str]:
    """The targets of all links and images of a document, without those in code."""
    return [link[1] for link in _CODE_OR_LINK.finditer(markdown) if link[1]]


def with_links_of_site(markdown: str, page: str) -> str:
    """Replaces the links between files of the repository by links between pages of the site."""

    def replaced(link: re.Match[str]) -> str:
        file = linked_file(source_of(page), link[1]) if link[1] else None
        if file is None:
            return link[0]
        path = posixpath.relpath(place_in_site(file), posixpath.dirname(page) or ".")
        return f"]({path}{link[1][link[1].find('#') :] if '#' in link[1] else ''})"

    return _CODE_OR_LINK.sub(replaced, markdown)


def page_text(path: Path) -> str:
    """The Markdown of a document, a program or a notebook. The docstring of a program stands before its code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        return "\n\n".join(words if kind == "markdown" else _code(words) for kind, words in cells) + "\n"
    if path.suffix == ".py":
        tree = ast.parse(text)
        first, _, rest = (ast.get_docstring(tree, clean=False) or path.stem).partition("\n")
        code = "".join(text.splitlines(keepends=True)[tree.body[0].end_lineno :]).strip()
        return f"# {first.rstrip('.')}\n{rest.rstrip()}\n\n{_code(code)}\n"
    return text


def _code(text: str) -> str:
    """A block of Python."""
    return f"```python\n{text}\n```"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents outside docs/, and the files that any document links to."""
    from mkdocs.structure.files import File

    texts = {source: page_text(ROOT / source) for source in PAGES}
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=texts[source]))
    texts |= {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    for source, text in texts.items():
        for file in filter(None, (linked_file(source, target) for target in links_in(text))):
            place = place_in_site(file)
            if (ROOT / file).is_file() and files.get_file_from_path(place) is None:
                files.append(File.generated(config, place, abs_src_path=str(ROOT / file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites the links of a page."""
    return with_links_of_site(markdown, page.file.src_uri)
