"""How long ago this process was started."""

from __future__ import annotations

import logging
import sys
import time

import psutil

LONGEST_START = 20.0
"""Python loads `logging` within this many seconds of its start, also from a slow disk. An older process was another
program before, for example a shell that `exec` or the last command of `bash -c` replaced by Python."""


def seconds_since_start() -> float:
    """Returns the elapsed seconds since this process was created, or since another program in it became Python."""
    # A log record knows how long ago `logging` was loaded, which is one of the first modules of any program.
    of_python = logging.makeLogRecord({}).relativeCreated / 1000
    of_process = _age_of_process()
    return of_process if 0 <= of_process - of_python <= LONGEST_START else of_python


def _age_of_process() -> float:
    created = psutil.Process().create_time()
    if sys.platform == "linux":
        # Linux tells the time of its start in whole seconds only, and the creation of a process relative to it.
        return time.clock_gettime(time.CLOCK_BOOTTIME) - (created - psutil.boot_time())
    return time.time() - created
