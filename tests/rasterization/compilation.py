"""Compiles C++ like setup.py, for tests that need the kernels with other flags or a part of them."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
KERNELS = CHECKOUT / "genlangsplat_ns" / "rasterization" / "kernels"
COMPILER = "g++"


def instruction_set_flags(instruction_set: str) -> list[str]:
    """The compiler flags of setup.py for one build of the kernels."""
    constants = runpy.run_path(str(CHECKOUT / "setup.py"), run_name="constants")
    return [*constants["COMMON_FLAGS"], *constants["INSTRUCTION_SETS"][instruction_set]]


def compile_library(source: Path, target: Path, instruction_set: str, *more_flags: str) -> Path:
    """Compiles one file to a shared library, with extra flags that take precedence over those of setup.py.

    Skips the test when there is no compiler.
    """
    if shutil.which(COMPILER) is None:
        pytest.skip(f"needs {COMPILER} to compile {source.name}")
    command = [COMPILER, *instruction_set_flags(instruction_set), *more_flags, "-I", str(KERNELS), "-fPIC", "-shared"]
    done = subprocess.run([*command, str(source), "-o", str(target)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target
