"""Lets the n-th file operation below a folder fail, or kills the process there: `file_faults.cpp` for LD_PRELOAD."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("file_faults.cpp")

OPERATIONS = ("open", "create", "read", "write", "sync", "rename", "folder", "remove")
"""Kinds of operations, in the order of the library. `open` is for reading, `create` for writing."""

CHANGES = ("create", "write", "sync", "rename", "folder", "remove")
"""Operations that change something."""

ACTIONS = {
    **{name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES")},
    "short write": -1,
    "kill": -2,
    "half a write, then kill": -3,
    "interrupt": -4,
}
"""What happens at the operation. After a short write, the disk is full."""


def missing_tools() -> str | None:
    """Says why the library cannot be used here, or None."""
    if sys.platform != "linux":
        return "file faults need LD_PRELOAD of Linux"
    if shutil.which("g++") is None:
        return "file faults need a C++ compiler: apt-get install g++"
    return None


def compile_library(folder: Path) -> Path:
    """Compiles the library into a folder and returns its path."""
    library = folder / "file_faults.so"
    subprocess.run(["g++", "-O1", "-fPIC", "-shared", "-o", library, SOURCE, "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class FileFault:
    """What happens at which operation on the files of a run."""

    number: int = 0
    """The operation, from 1; 0 only counts."""
    action: str = "kill"
    """One of ACTIONS."""
    operations: Sequence[str] = CHANGES
    """The kinds of operations that count."""
    lasting: bool = False
    """Whether all later operations fail too, as on a full disk."""


class FileFaults:
    """The library in this process, which was started with it in LD_PRELOAD."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._library.faults_count.restype = ctypes.c_long
        self.arm(Path("/nowhere"), FileFault())

    def arm(self, folder: Path, fault: FileFault) -> None:
        """Starts to count the operations below a folder."""
        bits = sum(1 << OPERATIONS.index(name) for name in fault.operations)
        self._library.faults_arm(
            os.fsencode(folder), bits, ctypes.c_long(fault.number), ACTIONS[fault.action], fault.lasting
        )

    def count(self) -> int:
        """The number of operations since the last start, those of killed child processes included."""
        return int(self._library.faults_count())
