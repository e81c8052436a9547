"""The age of a process counts from its start, or from the moment when another program in it became Python."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from genlangsplat_ns.utils import process_start
from genlangsplat_ns.utils.process_start import LONGEST_START, seconds_since_start

ROOT = Path(__file__).parents[2]
PRINT_AGE = "from genlangsplat_ns.utils.process_start import seconds_since_start as age; print(age())"


def test_a_process_is_as_old_as_the_time_since_it_was_started() -> None:
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", PRINT_AGE], check=True, capture_output=True, text=True, cwd=ROOT)
    whole = time.monotonic() - start
    assert 0 < float(done.stdout) <= whole + 0.02, "the clock of processes has ticks of 10 ms"


def test_the_age_grows_with_the_time() -> None:
    before, start = seconds_since_start(), time.perf_counter()
    time.sleep(0.05)
    grown = seconds_since_start() - before
    passed = time.perf_counter() - start
    assert 0.05 <= grown <= passed + 0.02


@pytest.mark.skipif(sys.platform != "linux", reason="creation times are relative to the start of the system on Linux")
@pytest.mark.parametrize(("older_by", "counted"), [(0.5, True), (LONGEST_START + 5, False), (-3.0, False)])
def test_a_program_that_became_python_is_not_counted(
    older_by: float, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example a shell that slept before the last command of `bash -c`. Nor is a clock that was set back."""

    class Created:
        def __init__(self, moment: float) -> None:
            self.moment = moment

        def create_time(self) -> float:
            return self.moment

    monkeypatch.setattr(process_start.time, "clock_gettime", lambda clock: 1_000.0)
    monkeypatch.setattr(psutil, "boot_time", lambda: 5_000.0)
    monkeypatch.setattr(psutil, "Process", lambda: Created(6_000.0))
    of_python = seconds_since_start()
    assert of_python > 0
    monkeypatch.setattr(psutil, "Process", lambda: Created(6_000.0 - of_python - older_by))
    found = seconds_since_start()
    expected = older_by if counted else 0.0
    assert found - of_python == pytest.approx(expected, abs=0.3)
