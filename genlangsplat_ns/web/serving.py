"""Runs the server of a page until Ctrl-C."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from genlangsplat_ns.errors import GenLangSplatError

LOGGER = logging.getLogger(__name__)

PATIENCE = 1
"""Seconds that requests may still take after Ctrl-C."""

MAX_CONNECTIONS = 200
"""Connections beyond this number are answered with 503."""


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Takes an address, before the scene is opened, which may take long. Port 0 takes any free port.

    Raises:
        GenLangSplatError: The port is in use or reserved, or this machine does not have the host.
    """
    if not 0 <= port <= 65535:
        raise GenLangSplatError(f"Found the port {port}, expected 0 to 65535. Give another --port.")
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise GenLangSplatError(
            f"Found the host {host!r}, which is no address of this machine ({error}). Give another --host, such as "
            "127.0.0.1, or 0.0.0.0 for all addresses."
        ) from error
    with socket.socket(family, kind, protocol) as taken:
        if sys.platform != "win32":
            # On Windows this would let two servers take the same port.
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(address)
            # Another server may have bound the port without listening yet, or the other way round.
            taken.listen()
        except OSError as error:
            raise GenLangSplatError(
                f"Found that {host}:{port} cannot be taken ({error.strerror}), probably because another program uses "
                "it. Give another port with --port, or --port 0 for any free one."
            ) from error
        yield taken


def is_local(taken: socket.socket) -> bool:
    """Whether only this machine can reach an address."""
    host = taken.getsockname()[0]
    return host.startswith("127.") or host == "::1"


def token_for(taken: socket.socket) -> str | None:
    """Returns a new random token if other machines can reach the address; None if not."""
    return None if is_local(taken) else secrets.token_urlsafe(24)


def address_of(taken: socket.socket, host: str, token: str | None = None) -> str:
    """Returns the address of the page for a browser."""
    named = host if host not in ("0.0.0.0", "::", "") else socket.gethostname()
    named = f"[{named}]" if ":" in named else named
    return f"http://{named}:{taken.getsockname()[1]}/" + ("" if token is None else f"?token={token}")


def serve(app: ASGIApp, taken: socket.socket, stop: Callable[[], None]) -> None:
    """Serves until Ctrl-C, or until the process is told to end; then calls `stop`."""
    config = uvicorn.Config(
        app,
        # Errors are reported by the application.
        log_level="critical",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=PATIENCE,
    )
    try:
        uvicorn.Server(config).run(sockets=[taken])
    except KeyboardInterrupt:
        # uvicorn has ended in order, and hands on what ended it.
        pass
    finally:
        stop()
    LOGGER.info("The server has stopped.")
