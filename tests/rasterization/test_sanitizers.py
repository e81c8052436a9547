"""With any input, the kernels access only valid memory and have no undefined behavior.

Every build is compiled once more with the address and the undefined behavior sanitizer, which end the process of
`sanitized_driver.py` at the first mistake. `make sanitize` runs this file alone, and `sanitizers.py` more scenes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import library
from tests.rasterization.compilation import compile_library
from tests.rasterization.sanitizers import SANITIZER_FLAGS, compile_sanitized, compiler_file, drive

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def sanitizers() -> None:
    """Skips the test without a compiler that has sanitizers."""
    try:
        for name in ("libasan.so", "libubsan.so"):
            compiler_file(name)
    except GenLangSplatError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def runs(
    sanitizers: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """Concurrent runs of the driver on every build of the kernels, compiled with sanitizers."""
    folder = tmp_path_factory.mktemp("sanitized")

    def compile_and_drive(name: str) -> subprocess.CompletedProcess[str]:
        return drive(name, compile_sanitized(name, folder / f"{name}.so"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(compile_and_drive, name) for name in library.available_instruction_sets()}


@pytest.mark.parametrize("name", library.available_instruction_sets())
def test_hostile_input_leads_to_no_bad_access_and_no_undefined_behavior(
    name: str, runs: dict[str, Future[subprocess.CompletedProcess[str]]]
) -> None:
    done = runs[name].result()
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("sanitizers")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_sanitizers_report_mistakes(mistake: str, tmp_path: Path) -> None:
    source = tmp_path / "mistaken.cpp"
    source.write_text(MISTAKES[mistake])
    done = drive("baseline", compile_library(source, tmp_path / "mistaken.so", "baseline", *SANITIZER_FLAGS))
    assert done.returncode != 0
    assert mistake in done.stderr
