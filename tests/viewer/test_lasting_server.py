"""An error in a group of viser's messages does not block the server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from viser import ViserServer

from genlangsplat_ns.viewer.lasting_server import answer_after_errors

PATIENCE = 60
"""Seconds in which another thread must have its turn."""


@pytest.fixture
def server() -> Iterator[ViserServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ViserServer("127.0.0.1", port, verbose=False)
    answer_after_errors(server)
    yield server
    server.stop()


def group_of_messages(server: ViserServer) -> str:
    """What nerfstudio does when a camera moves."""
    with server.atomic(), server.atomic():
        return "had its turn"


def test_other_threads_have_their_turn_after_an_error(server: ViserServer) -> None:
    with pytest.raises(KeyError, match="3"), server.atomic():
        raise KeyError(3)
    with ThreadPoolExecutor(1) as other:
        # Without its turn the thread would stay, and so would this test.
        done = other.submit(group_of_messages, server)
        try:
            assert done.result(PATIENCE) == "had its turn"
        finally:
            if not done.done():
                server._websock_server._atomic_lock.release()


def test_a_group_is_one_turn(server: ViserServer) -> None:
    with ThreadPoolExecutor(1) as other:
        with server.atomic():
            done = other.submit(group_of_messages, server)
            assert not wait([done], 0.5).done
        assert done.result(PATIENCE) == "had its turn"
