"""`gen-langsplat view` in its own process: it answers, and Ctrl-C ends it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genlangsplat_ns.web.serving import bound
from tests.end_to_end.commands import BIN
from tests.web.pages import JSON

PATIENCE = 180
"""Seconds until the server must have started, on a busy machine."""

QUICK = 30
"""Seconds until it must have stopped, on a busy machine; on an idle one it takes about two."""


class Viewing:
    """A running `gen-langsplat view`."""

    def __init__(self, config: Path, folder: Path, *words: str) -> None:
        self.log = folder / "log.txt"
        command = [BIN / "gen-langsplat", "view", "--load-config", config, "--no-browser", *words]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A shell may start programs in the background with Ctrl-C ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def address(self) -> str:
        """Waits for the address, and returns it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = re.search(r"The scene is at (\S+)", self.log.read_text())
            if found:
                return found[1]
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.2)
        pytest.fail(f"waited {PATIENCE} s for the server: {self.log.read_text()[-3000:]}")

    def ask(self, address: str, *texts: str) -> bytes:
        """Asks some texts."""
        body = json.dumps({"page": "a", "request": 1, "texts": texts}).encode()
        request = urllib.request.Request(f"{address}api/texts", body, {**JSON})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return bytes(answer.read())

    def interrupt(self) -> int:
        """Presses Ctrl-C and returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(QUICK)


@pytest.fixture
def viewing(tmp_path: Path) -> Iterator[Any]:
    """Starts the command; whatever was started is ended."""
    started: list[Viewing] = []

    def start(config: Path, *words: str) -> Viewing:
        started.append(Viewing(config, tmp_path, *words))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c_although_a_page_is_open(example_run: Path, viewing: Any) -> None:
    (config,) = (example_run / "runs").rglob("config.yml")
    running = viewing(config, "--port", "0", "--text", "a cat")
    address = running.address()
    with urllib.request.urlopen(f"{address}scene.json", timeout=60) as answer:
        scene = json.load(answer)
    assert scene["texts"] == ["a cat"] and len(scene["views"]) > 2
    assert len(running.ask(address, "a cat")) > scene["splats"]["count"] * 3
    port = int(address.rsplit(":", 1)[1].strip("/"))
    # A page that is open keeps its connection, here in the middle of a request.
    with socket.create_connection(("127.0.0.1", port)) as page:
        page.sendall(f"POST /api/texts HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9\r\n\r\n".encode())
        time.sleep(0.5)
        assert running.interrupt() == 0
    assert "The server has stopped." in running.log.read_text()


@pytest.mark.slow
def test_a_port_in_use_ends_the_command_at_once(example_run: Path, viewing: Any) -> None:
    (config,) = (example_run / "runs").rglob("config.yml")
    with bound("127.0.0.1", 0) as taken:
        running = viewing(config, "--port", str(taken.getsockname()[1]))
        assert running.process.wait(PATIENCE) == 1
    log = running.log.read_text()
    assert "--port" in log and "checkpoint" not in log
