"""Keeps viser's server answering after an error in a group of its messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from viser import ViserServer


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
