"""A server of one file, which can cut its answers, refuse ranges or answer with an error."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class FileServer:
    """Serves `content` under every path of `url`."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.url = ""
        self.cut_after: int | None = None
        """Bytes after which an answer ends early."""
        self.ranges = True
        """Whether an answer can begin in the middle of the file."""
        self.status: int | None = None
        """Status of an error to answer with."""
        self.asked: list[tuple[str, str | None]] = []
        """Path and range of every request."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers a request."""
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if self.status is not None:
            request.send_error(self.status)
        elif start and start >= len(self.content):
            request.send_error(416)
        else:
            request.send_response(206 if start else 200)
            request.send_header("Content-Length", str(len(self.content) - start))
            request.end_headers()
            # A client without room for the file hangs up.
            with suppress(ConnectionError):
                request.wfile.write(self.content[start : None if self.cut_after is None else start + self.cut_after])


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Runs a server on a free port of this machine."""
    server = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}/"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def silent_server(answer: bytes) -> Iterator[str]:
    """A server that takes connections, sends `answer`, and then nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    taken.append(client)
                    client.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/file"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in taken:
                client.close()
