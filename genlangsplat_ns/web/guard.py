"""Who may ask the server: the page itself, and nobody else's page. The first thing that a request meets.

A server on this machine can be reached by every page that a browser shows. So a request must name a host of this
machine (a foreign name that was made to lead here is refused), must not come from a page of another origin, and where
the server is reached from other machines, must know the token in the address that the command printed.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genlangsplat_ns.web.policy import policy_of

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names by which a browser calls this machine."""

HEADERS = {
    "content-security-policy": policy_of("'self'", "'self'") + "; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer."""


@dataclass(frozen=True)
class Door:
    """How the server may be reached."""

    port: int
    token: str | None = None
    """What a request must know if the server is not bound to this machine alone."""
    open_paths: frozenset[str] = frozenset({"/"})
    """Paths without secrets, which need no token: the files of the page."""

    def refusal(self, path: str, method: str, headers: dict[str, str], token: str) -> str | None:
        """Says why a request is refused; None if it may pass.

        Args:
            path: Of the address.
            method: Such as GET.
            headers: By lower-case name; a header that came twice has both values.
            token: What the request gave.
        """
        host = headers.get("host", "")
        if self.token is None and host not in self._hosts():
            return f"Found the host {host!r}, expected one of {', '.join(sorted(self._hosts()))}. Open that address."
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return f"Found a request from the origin {origin!r}, expected http://{host}. Open the page of this server."
        # A link on another page may lead to this page, but nothing else.
        is_link = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not is_link:
            return f"Found a request from another site ({site}), expected the page of this server. Open that page."
        if (
            self.token is not None
            and path not in self.open_paths
            and not hmac.compare_digest(token.encode(), self.token.encode())
        ):
            return "Found no token or a wrong one. Open the whole address that gen-langsplat view printed."
        return None

    def _hosts(self) -> set[str]:
        names = {f"{name}:{self.port}" for name in LOOPBACK}
        return names | set(LOOPBACK) if self.port == 80 else names


class Guard:
    """Refuses requests that a door does not let pass, and adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or hands it on."""
        if scope["type"] != "http":
            # Only the life of the server; there are no web sockets.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        headers = _headers(scope)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        token = headers.get("x-token") or "".join(query.get("token", []))
        refused = self._door.refusal(scope["path"], scope["method"], headers, token)
        if refused is None:
            await self._app(scope, receive, send_guarded)
            return
        body = json.dumps({"error": refused}).encode()
        start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"application/json")]}
        await send_guarded(start)
        await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    pairs: Any = scope["headers"]
    for name, value in pairs:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
