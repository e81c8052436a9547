"""The real commands that serve a run, `ns-viewer` and `gen-langsplat view`, in processes that are watched."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from genlangsplat_ns.errors import GenLangSplatError

OPENING = 300
"""Seconds in which a server must have opened the run."""

STOPPING = 60
"""Seconds after Ctrl-C after which a server is killed."""

TRACEBACK = "Traceback (most recent call last)"

ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*$", re.MULTILINE)
"""The last line of a traceback."""

FAILED = re.compile(r"^.*\bfailed: \w+: .*$", re.MULTILINE)
"""What the page's server writes about a request that failed."""

PACKAGE = "genlangsplat_ns"


class RunServer:
    """A command that serves a run at a port.

    Args:
        command: Program of this environment, and its arguments.
        port: Its port.
        log: A new file for what it prints.
    """

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.address, self._log = f"http://127.0.0.1:{port}/", log
        words = [str(Path(sys.executable).parent / command[0]), *command[1:]]
        with log.open("w") as output:
            # The process inherits the working folder, because paths in a config may be relative.
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
                preexec_fn=_heed_ctrl_c,
            )
        self._watched = psutil.Process(self._process.pid)

    def wait_until_open(self) -> None:
        """Waits until the server answers.

        Raises:
            GenLangSplatError: The process has ended, or does not answer.
        """
        end = time.monotonic() + OPENING
        while not self._is_open():
            if self._process.poll() is not None or time.monotonic() > end:
                written = self._log.read_text(errors="replace")[-1000:]
                raise GenLangSplatError(f"The server did not open within {OPENING} s; it wrote:\n{written}")
            time.sleep(0.2)

    def _is_open(self) -> bool:
        try:
            return bool(urllib.request.urlopen(self.address, timeout=5).status == 200)
        except OSError:
            return False

    def memory_kb(self) -> float:
        """The resident memory of the process and its children in kilobytes.

        Raises:
            GenLangSplatError: The process has ended.
        """
        try:
            processes = [self._watched, *self._watched.children(recursive=True)]
            return sum(float(process.memory_info().rss) for process in processes) / 1e3
        except psutil.NoSuchProcess as error:
            written = self._log.read_text(errors="replace")[-1000:]
            raise GenLangSplatError(f"A server has ended during the load; it wrote:\n{written}") from error

    def errors(self) -> tuple[list[str], list[str]]:
        """The unexpected errors that the command wrote: of this package, and of others."""
        return errors_in(self._log.read_text(errors="replace"))

    def stop(self) -> float:
        """Presses Ctrl-C and returns the seconds until the process ended; after `STOPPING`, it is aborted."""
        start = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self.stacks()
        return time.monotonic() - start

    def stacks(self) -> str:
        """Ends the process, and returns where each of its threads was."""
        before = len(self._log.read_text(errors="replace"))
        self._process.send_signal(signal.SIGABRT)
        self._process.wait()
        return self._log.read_text(errors="replace")[before:]

    def kill(self) -> None:
        """Kills the process if it still runs."""
        self._process.kill()
        self._process.wait()


def errors_in(log: str) -> tuple[list[str], list[str]]:
    """Finds errors in what a command wrote: the last lines of tracebacks, and the requests that failed.

    Returns:
        Those of this package, and those of others: their tracebacks name none of its files.
    """
    start, *parts = log.split(TRACEBACK)
    own, foreign = FAILED.findall(start), []
    for part in parts:
        end = ERROR.search(part)
        trace, after = (part, "") if end is None else (part[: end.start()], part[end.end() :])
        line = "a traceback without an error" if end is None else end.group()
        (own if PACKAGE in trace else foreign).append(line)
        own += FAILED.findall(after)
    return own, foreign


@contextmanager
def running_servers(run: Path, folder: Path) -> Iterator[tuple[RunServer, RunServer]]:
    """The viewer and the page of a run, which answer.

    Args:
        run: Its config.yml.
        folder: A folder for what the commands print.
    """
    ports = _free_ports(2)
    at = ("--viewer.websocket-host", "127.0.0.1", "--viewer.websocket-port", str(ports[0]))
    viewer = RunServer(("ns-viewer", "--load-config", str(run), *at), ports[0], folder / "viewer.txt")
    try:
        options = ("view", "--load-config", str(run), "--no-browser", "--port", str(ports[1]))
        page = RunServer(("gen-langsplat", *options), ports[1], folder / "page.txt")
        try:
            viewer.wait_until_open()
            page.wait_until_open()
            yield viewer, page
        finally:
            page.kill()
    finally:
        viewer.kill()


def _heed_ctrl_c() -> None:
    """A shell lets commands in its background ignore Ctrl-C, and they hand that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
