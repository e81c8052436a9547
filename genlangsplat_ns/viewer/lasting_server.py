"""Keeps viser's server answering, and its memory bounded, when browsers vanish."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from viser import ClientHandle, ViserServer


def let_go_of_the_gone(server: ViserServer) -> None:
    """Lets clients go that left before their first camera was handled.

    viser notes such a client when it is gone, and would never let it go: nerfstudio would draw for it forever. Call
    this after nerfstudio has registered its own callbacks, which run first.
    """

    def leave_if_gone(client: ClientHandle) -> None:
        # viser closes the buffer before it looks for the client among those that it has noted.
        if client._websock_connection._state.message_buffer.done:
            server._connected_clients.pop(client.client_id)
            for left in server._client_disconnect_cb:
                left(client)

    server.on_client_connect(leave_if_gone)


def return_free_memory(server: ViserServer) -> None:
    """Gives free memory back to the system whenever a client leaves.

    nerfstudio draws for every client in a thread of its own, and glibc would keep what such a thread frees: hundreds
    of megabytes after dozens of clients.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        # Other C libraries keep less, and have no such function.
        return

    def return_all(client: ClientHandle) -> None:
        trim(0)

    server.on_client_disconnect(return_all)


def answer_after_errors(server: ViserServer) -> None:
    """Lets `server.atomic()` end its group of messages also if the code in it raises.

    viser ends it only without an error and holds its lock otherwise, so that all browsers would wait forever.
    nerfstudio's viewer raises there if a browser vanishes while its camera moves.
    """
    group = server.atomic

    @contextmanager
    def atomic() -> Iterator[None]:
        opened = group()
        opened.__enter__()
        try:
            yield
        finally:
            # viser must not see the error, which goes on from here.
            opened.__exit__(None, None, None)

    server.atomic = atomic  # type: ignore[method-assign]  # viser has no other way to change it.
