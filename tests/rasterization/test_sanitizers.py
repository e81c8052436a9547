"""With any input, the kernels access only valid memory and have no undefined behavior.

Every build is compiled once more with the address and the undefined behavior sanitizer, which end the process of
`sanitized_driver.py` at the first mistake. `make sanitize` runs this file alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from genlangsplat_ns.rasterization import library
from tests.rasterization.compilation import CHECKOUT, COMPILER, KERNELS, compile_library

pytestmark = pytest.mark.slow

SANITIZER_FLAGS = (
    *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=undefined,float-cast-overflow"),
    *("-fno-omit-frame-pointer", "-O1"),
    # Line numbers without variables, and checks as calls: compilation takes an eighth of the time.
    *("-g1", "--param", "asan-instrumentation-with-call-threshold=0"),
)

# New memory is filled with bytes that read as NaN, to detect reads of unwritten memory. Leaks of Python are ignored.
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:malloc_fill_byte=255:max_malloc_fill_size=1073741824",
    "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
}

# The loader calls this function first, like that of the same name in the kernels.
MISTAKES = {
    "heap-buffer-overflow": """
        extern "C" __attribute__((visibility("default"))) int gls_interface_version() {
            volatile int size = 4;
            int* numbers = new int[size]();
            return numbers[size];
        }""",
    "signed integer overflow": """
        extern "C" __attribute__((visibility("default"))) int gls_interface_version() {
            volatile int largest = 0x7fffffff;
            return largest + 1;
        }""",
}


def compiler_file(name: str) -> str:
    """The path of one of the compiler's libraries; skips the test without it."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"needs {COMPILER} to compile the kernels with sanitizers")
    command = [COMPILER, f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    # Without such a library, the compiler returns only its name.
    if not Path(path).is_absolute():
        pytest.skip(f"needs {name}, which this {COMPILER} comes without")
    return path


def drive(instruction_set: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Runs the driver on a library in a process with the runtime of the sanitizers."""
    # The C++ library must be loaded when the sanitizer looks for it, or exceptions of torch abort.
    preloaded = " ".join(compiler_file(name) for name in ("libasan.so", "libstdc++.so.6"))
    return subprocess.run(
        [sys.executable, "-m", "tests.rasterization.sanitized_driver", instruction_set, str(path)],
        cwd=CHECKOUT,
        env={**os.environ, **SANITIZER_OPTIONS, "LD_PRELOAD": preloaded},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """Concurrent runs of the driver on every build of the kernels, compiled with sanitizers."""
    for name in ("libasan.so", "libubsan.so"):
        compiler_file(name)
    folder = tmp_path_factory.mktemp("sanitized")

    def compile_and_drive(name: str) -> subprocess.CompletedProcess[str]:
        source, target = KERNELS / "kernels.cpp", folder / f"{name}.so"
        return drive(name, compile_library(source, target, name, *SANITIZER_FLAGS))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(compile_and_drive, name) for name in library.available_instruction_sets()}


@pytest.mark.parametrize("name", library.available_instruction_sets())
def test_hostile_input_leads_to_no_bad_access_and_no_undefined_behavior(
    name: str, runs: dict[str, Future[subprocess.CompletedProcess[str]]]
) -> None:
    done = runs[name].result()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_sanitizers_report_mistakes(mistake: str, tmp_path: Path) -> None:
    compiler_file("libasan.so")
    source = tmp_path / "mistaken.cpp"
    source.write_text(MISTAKES[mistake])
    done = drive("baseline", compile_library(source, tmp_path / "mistaken.so", "baseline", *SANITIZER_FLAGS))
    assert done.returncode != 0
    assert mistake in done.stderr
