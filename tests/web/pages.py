"""A small scene behind a page, and a client that asks its server in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from genlangsplat_ns.language.settings import QuerySettings, SelectionSettings
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.web.live_scene import LiveScene
from genlangsplat_ns.web.server import make_app
from tests.scene.language_scenes import language_scene, some_camera, two_clouds

PORT = 7008
HOST = f"127.0.0.1:{PORT}"
JSON = {"content-type": "application/json"}
BINARY = {"content-type": "application/octet-stream"}

INDEX = (
    '<!doctype html>\n<html lang="en"><head><title>page</title><link rel="stylesheet" href="style.css">'
    '<script src="app.js" defer></script></head><body><main></main></body></html>\n'
)


class Views:
    """A data set of one view, without its photograph."""

    def __init__(self) -> None:
        self.cameras = some_camera()

    def __len__(self) -> int:
        return 1


def page_scene(name: str = "clouds", **settings: Any) -> LanguageScene:
    """Two clouds of Gaussians, `left` and `right`, with a training view and a held-out one."""
    scene = language_scene(two_clouds(**settings))
    manager: Any = scene.datamanager
    manager.config = SimpleNamespace(dataparser=SimpleNamespace(data=Path("/nowhere") / name / "transforms.json"))
    manager.dataset.side_effect = lambda split: Views()
    manager.image.side_effect = lambda split, index: torch.full((320, 480, 3), 200, dtype=torch.uint8)
    return scene


def live_scene(scene: LanguageScene | None = None, texts: tuple[str, ...] = ()) -> LiveScene:
    """The scene behind a page."""
    return LiveScene(scene or page_scene(), QuerySettings(), SelectionSettings(), texts, "RUN/config.yml")


def built_page(folder: Path, script: str = "console.log('page')") -> Path:
    """A built page that does nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"index.html": INDEX, "app.js": script, "style.css": "main {}", "licenses.txt": "MIT", "sources.json": "{}"}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence of an error."""
        assert self.status >= 400, self.status
        return str(self.json()["error"])


async def ask(
    app: Any,
    path: str,
    body: bytes | Sequence[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    gone: bool = False,
    method: str | None = None,
) -> Answer:
    """Sends one request and returns the answer.

    Args:
        app: The application.
        path: With the query.
        body: Of a POST, in one or several blocks; None for a GET.
        headers: Besides the host, or instead of it.
        gone: Whether the client goes away after its request.
        method: Instead of GET or POST.
    """
    blocks = [body] if isinstance(body, bytes) else list(body or [b""])
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method or ("GET" if body is None else "POST"),
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(key.encode(), value.encode()) for key, value in ({"host": HOST} | dict(headers or {})).items()],
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if blocks:
            block = blocks.pop(0)
            return {"type": "http.request", "body": block, "more_body": bool(blocks)}
        if not gone:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answered = {key.decode().lower(): value.decode() for key, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))


def get(app: Any, path: str, **headers: str) -> Answer:
    """Sends a GET; headers have underscores for hyphens."""
    return asyncio.run(ask(app, path, headers={key.replace("_", "-"): value for key, value in headers.items()}))


def post(app: Any, path: str, document: Any, headers: Mapping[str, str] = JSON) -> Answer:
    """Sends a POST of JSON, or of bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return asyncio.run(ask(app, path, body, headers))


def app_of(live: LiveScene, token: str | None = None, page: Path | None = None) -> Any:
    """The application of a scene."""
    return make_app(live, PORT, token, page)
