"""Parts of benchmarks in their own processes: their memory, their errors, and processes that are killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("benchmarks_importable")


def fill(megabytes: int) -> dict[str, object]:
    """Fills memory, and returns what the process is."""
    filled = b"\1" * (megabytes << 20)
    sys.stdout.write("not shown\n")
    return {"process": os.getpid(), "size": len(filled), "waiting": os.environ["OMP_WAIT_POLICY"]}


def fail(path: Path) -> dict[str, object]:
    """Reads a file that is not there."""
    return {"text": path.read_text()}


def write_and_wait(path: Path) -> None:
    """Writes a file and never ends."""
    path.write_text("started")
    while True:
        time.sleep(1)


def test_a_part_has_its_own_memory(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from support.processes import in_own_process

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    small, large = (in_own_process(fill, megabytes) for megabytes in (0, 200))
    assert len({os.getpid(), small["process"], large["process"]}) == 3
    assert large["peak_memory_gb"] - small["peak_memory_gb"] == pytest.approx(200 * 2**20 / 1e9, rel=0.1)
    assert small["waiting"] == "PASSIVE" and "OMP_WAIT_POLICY" not in os.environ
    assert capfd.readouterr().out == ""


def test_an_error_of_a_part_arrives(tmp_path: Path) -> None:
    from support.processes import in_own_process

    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        in_own_process(fail, tmp_path / "missing.txt")


def test_a_started_process_can_be_killed(tmp_path: Path) -> None:
    from support.processes import start_process

    process = start_process(write_and_wait, tmp_path / "log")
    while process.is_alive() and not (tmp_path / "log").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and (tmp_path / "log").read_text() == "started"
