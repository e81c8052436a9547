"""The files of the built page, which lie in `page/` beside this file."""

from __future__ import annotations

from pathlib import Path

PAGE_FOLDER = Path(__file__).parent / "page"

INDEX = "index.html"

NEEDED = (INDEX, "app.js", "style.css")

SOURCES = "sources.json"
"""What the page was built from, for a test."""

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".wasm": "application/wasm",
}

NOT_BUILT = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Gen-LangSplat</title>"
    "<h1>The page is not built</h1><p>This is a clone without the built files of the page. Run <code>make page</code> "
    "in it, and start the command again.</html>"
)


def read_page(folder: Path | None = None) -> dict[str, bytes]:
    """Returns the files of the page by name; a page that says so if it is not built."""
    folder = folder or PAGE_FOLDER
    if not is_built(folder):
        return {INDEX: NOT_BUILT.encode()}
    return {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and path.name != SOURCES
    }


def is_built(folder: Path | None = None) -> bool:
    """Whether all needed files of the page are there."""
    return all(((folder or PAGE_FOLDER) / name).is_file() for name in NEEDED)


def content_type(name: str) -> str:
    """Returns the content type of a file by its ending."""
    return CONTENT_TYPES.get(Path(name).suffix, "application/octet-stream")
