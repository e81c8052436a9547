"""The server behind the page of `gen-langsplat view`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.web.guard import Door, Guard
from genlangsplat_ns.web.live_scene import LiveScene
from genlangsplat_ns.web.page_files import INDEX, content_type, read_page
from genlangsplat_ns.web.page_scene import SPLATS
from genlangsplat_ns.web.protocol import pack
from genlangsplat_ns.web.requests import Asked, RefusedError, asked_by, click_of, read_body, read_json, texts_of
from genlangsplat_ns.web.turns import BusyError, OutdatedError, Turns

LOGGER = logging.getLogger(__name__)

BINARY = "application/octet-stream"

EXPORTED = {"ply", "spz"}
"""Formats of downloads."""


def make_app(live: LiveScene, port: int, token: str | None = None, page_folder: Path | None = None) -> ASGIApp:
    """Makes the ASGI application of one scene.

    Args:
        live: The scene.
        port: The port in its address.
        token: What every request for the scene must know; None if only this machine can reach the server.
        page_folder: The built page; None for that of the package.
    """
    files = read_page(page_folder)
    handlers = _Handlers(live, files)
    pages = [Route(f"/{name}", handlers.page) for name in files]
    routes = [
        Route("/", handlers.page),
        *pages,
        Route("/scene.json", handlers.description),
        Route(f"/{SPLATS}", handlers.splats),
        Route("/thumbnails/{number:int}.jpg", handlers.thumbnail),
        Route("/api/health", handlers.health),
        Route("/api/texts", handlers.texts, methods=["POST"]),
        Route("/api/here", handlers.here, methods=["POST"]),
        Route("/api/like", handlers.like, methods=["POST"]),
        Route("/api/export", handlers.export, methods=["POST"]),
    ]
    handled: dict[Any, Any] = {
        GenLangSplatError: _say_error,
        HTTPException: _say_status,
        Exception: _say_fault,
    }
    app = Starlette(routes=routes, exception_handlers=handled)
    app.router.redirect_slashes = False
    return Guard(app, Door(port, token, frozenset({"/", *(f"/{name}" for name in files)})))


class _Handlers:
    def __init__(self, live: LiveScene, files: dict[str, bytes]) -> None:
        self._live, self._page = live, files
        self._turns = Turns(live.model_thread)

    async def page(self, request: Request) -> Response:
        name = request.url.path.removeprefix("/") or INDEX
        return Response(self._page[name], media_type=content_type(name))

    async def description(self, request: Request) -> Response:
        return Response(self._live.description, media_type="application/json")

    async def splats(self, request: Request) -> Response:
        return Response(await _in_thread(self._live.file_thread, self._live.splats), media_type=BINARY)

    async def thumbnail(self, request: Request) -> Response:
        number = request.path_params["number"]
        try:
            body = await _in_thread(self._live.file_thread, partial(self._live.thumbnail, number))
        except GenLangSplatError as error:
            raise RefusedError(404, str(error)) from error
        return Response(body, media_type="image/jpeg")

    async def health(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def texts(self, request: Request) -> Response:
        document = await read_json(request)
        texts, prompts = texts_of(document)
        scores = await self._ask(request, asked_by(document), partial(self._live.answers.cosines, texts, prompts))
        return Response(pack("cosines", scores), media_type=BINARY)

    async def here(self, request: Request) -> Response:
        document = await read_json(request)
        names = await self._ask(request, asked_by(document), partial(self._live.clicks.names, *click_of(document)))
        listed = [{"text": text, "score": score} for text, score in names.texts]
        return JSONResponse({"names": listed, "point": names.point})

    async def like(self, request: Request) -> Response:
        document = await read_json(request)
        scores = await self._ask(request, asked_by(document), partial(self._live.clicks.similar, *click_of(document)))
        return Response(pack("relevancy", [scores]), media_type=BINARY)

    async def export(self, request: Request) -> Response:
        ending = request.query_params.get("format", "ply")
        if ending not in EXPORTED:
            raise RefusedError(400, f"Found the format {ending[:20]!r}, expected one of {', '.join(sorted(EXPORTED))}.")
        expected = (len(self._live.page.rows) + 7) // 8
        bits = await read_body(request, expected, BINARY)
        if len(bits) != expected:
            raise RefusedError(400, f"Found a mask of {len(bits):,} bytes, expected {expected:,}: a bit per Gaussian.")
        body = await _in_thread(self._live.file_thread, partial(self._live.export, bits, ending))
        attachment = f'attachment; filename="selection.{ending}"'
        return Response(body, media_type=BINARY, headers={"content-disposition": attachment})

    async def _ask(self, request: Request, asked: Asked, work: Callable[[], Any]) -> Any:
        owner = (asked.page, request.url.path)
        return await self._turns.run(owner, asked.request, work, request.is_disconnected)


async def _in_thread(executor: Any, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(executor, work)


def _status_of(error: Exception) -> int:
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, OutdatedError):
        return 409
    return 503 if isinstance(error, BusyError) else 400


async def _say_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, _status_of(error))


async def _say_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "it handles no other"
    message = f"{error.detail}: {request.method} {request.url.path[:100]} is none of this server's addresses."
    return JSONResponse({"error": message}, error.status_code)


async def _say_fault(request: Request, error: Exception) -> Response:
    LOGGER.error("%s %s failed: %s: %s", request.method, request.url.path, type(error).__name__, error)
    message = f"The server failed ({type(error).__name__}: {error}). The terminal of gen-langsplat view says more."
    return JSONResponse({"error": message}, 500)
