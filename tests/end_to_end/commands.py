"""Runs commands: `gen-langsplat` in this process, and any program in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from genlangsplat_ns import cli

BIN = Path(sys.executable).parent


def gen_langsplat(*words: str | Path, expect: int = 0) -> None:
    """Runs `gen-langsplat` in this process, and checks its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["gen-langsplat", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as exit:
            status = exit.code
    assert status == expect


def run(*command: str | Path, folder: Path, expect: int = 0) -> str:
    """Runs a program in its own process and in a folder, and returns its output; starting nerfstudio takes seconds."""
    words = [str(BIN / command[0]), *map(str, command[1:])]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600)
    output = f"{command} exited with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == expect, output
    return done.stdout + done.stderr
