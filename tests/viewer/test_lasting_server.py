"""Errors and clients that vanish do not block viser's server, and leave nothing behind."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

import msgspec
import psutil
import pytest
from viser import ViserServer
from websockets.sync.client import connect

from genlangsplat_ns.viewer.lasting_server import answer_after_errors, let_go_of_the_gone, return_free_memory
from tests.web.browser import PATIENCE, wait_for


@pytest.fixture
def server() -> Iterator[ViserServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ViserServer("127.0.0.1", port, verbose=False)
    answer_after_errors(server)
    yield server
    server.stop()


CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (3.0, 0.0, 1.0),
    "fov": 1.0,
    "aspect": 1.0,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 0.0, 1.0),
}
"""The first message of a browser."""


def visit(server: ViserServer, leave: Callable[[], None]) -> None:
    """Comes as a browser, and leaves after `leave` has returned."""
    address = f"ws://127.0.0.1:{server.get_port()}"
    with connect(address, max_size=None, compression=None) as browser:
        browser.send(msgspec.msgpack.encode(CAMERA))
        leave()


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


@pytest.fixture
def visits(server: ViserServer) -> tuple[list[int], list[int]]:
    """Numbers of the clients that came and that left, as nerfstudio is told."""
    came: list[int] = []
    left: list[int] = []
    server.on_client_disconnect(lambda client: left.append(client.client_id))
    server.on_client_connect(lambda client: came.append(client.client_id))
    let_go_of_the_gone(server)
    return came, left


def test_a_client_that_left_before_its_camera_was_handled_is_let_go(
    server: ViserServer, visits: tuple[list[int], list[int]]
) -> None:
    came, left = visits
    workers, free = server._websock_server._thread_executor, Event()
    for _ in range(32):
        workers.submit(free.wait, PATIENCE)
    visit(server, lambda: wait_for(lambda: workers._work_queue.qsize() > 0, "its message"))
    wait_for(lambda: not server._websock_server._client_state_from_id, "its end")
    assert came == [], "its camera still waits for a worker"
    free.set()
    wait_for(lambda: left, "its leave")
    assert came == left and server.get_clients() == {}


def test_a_client_that_stays_is_kept_until_it_leaves(server: ViserServer, visits: tuple[list[int], list[int]]) -> None:
    came, left = visits
    visit(server, lambda: wait_for(server.get_clients, "its arrival"))
    wait_for(lambda: left, "its leave")
    assert came == left and server.get_clients() == {}


BLOCK, BLOCKS = 1 << 16, 1600


def memory_in_use() -> int:
    """The resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


def fill_and_free() -> None:
    """Takes 100 MB in small blocks and frees nearly all of them, as drawing does."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    blocks = [library.malloc(ctypes.c_size_t(BLOCK)) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    for block in blocks[:-1]:
        library.free(block)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps the memory of threads")
def test_memory_of_threads_goes_back_when_a_client_leaves(server: ViserServer) -> None:
    return_free_memory(server)
    with ThreadPoolExecutor(1) as other:
        before = memory_in_use()
        other.submit(fill_and_free).result()
        kept = memory_in_use()
        assert kept > before + BLOCK * BLOCKS // 2, "the system got the memory back by itself"
        visit(server, lambda: wait_for(server.get_clients, "its arrival"))
        wait_for(lambda: memory_in_use() < kept - BLOCK * BLOCKS // 2, "the end of the memory")
