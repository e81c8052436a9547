"""Compiles the kernels with sanitizers and drives them; as a program, for many hostile scenes.

    python -m tests.rasterization.sanitizers --scenes 5000 --seed 1 --crowd 5000000

prints one line of figures per build. `benchmarks/robustness.py` may call `drive_builds` in the same way. Without the
sanitizers (--plain), the installed builds draw a crowd that would not fit into memory with them.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import library
from tests.rasterization.compilation import CHECKOUT, COMPILER, compile_library

SOURCE = Path(__file__).with_name("sanitized_kernels.cpp")

SANITIZER_FLAGS = (
    *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=undefined,float-cast-overflow"),
    *("-fno-omit-frame-pointer", "-O1"),
    # Line numbers without variables, and checks as calls: compilation takes an eighth of the time.
    *("-g1", "--param", "asan-instrumentation-with-call-threshold=0"),
)

ALLOCATION_FLAGS = ("-Wl,--wrap=_Znwm", "-Wl,--wrap=_ZnwmSt11align_val_t")
"""The linker passes calls of operator new to `sanitized_kernels.cpp`."""

# New memory is filled with bytes that read as NaN, to detect reads of unwritten memory. Leaks of Python are ignored.
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:malloc_fill_byte=255:max_malloc_fill_size=1073741824",
    "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
}


@dataclass(frozen=True)
class KernelFigures:
    """A run of the driver on one build."""

    build: str
    seed: int
    scenes: int
    crowd: int
    findings: int
    seconds: float
    peak_gigabytes: float
    report: str = ""
    """What the sanitizer or the law said, if there is a finding."""


def compiler_file(name: str) -> str:
    """The path of one of the compiler's libraries.

    Raises:
        GenLangSplatError: There is no compiler, or it comes without this library.
    """
    if shutil.which(COMPILER) is None:
        raise GenLangSplatError(f"Found no {COMPILER}, which compiles the kernels with sanitizers. Install it.")
    command = [COMPILER, f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    # Without such a library, the compiler returns only its name.
    if not Path(path).is_absolute():
        raise GenLangSplatError(f"This {COMPILER} comes without {name}, which the sanitizers need. Install it.")
    return path


def compile_sanitized(name: str, target: Path) -> Path:
    """Compiles one build of the kernels with sanitizers and failing allocations."""
    return compile_library(SOURCE, target, name, *SANITIZER_FLAGS, *ALLOCATION_FLAGS)


def drive(instruction_set: str, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the driver on a library in a process with the runtime of the sanitizers."""
    # The C++ library must be loaded when the sanitizer looks for it, or exceptions of torch abort.
    preloaded = " ".join(compiler_file(name) for name in ("libasan.so", "libstdc++.so.6"))
    return subprocess.run(
        [sys.executable, "-m", "tests.rasterization.sanitized_driver", instruction_set, str(path), *options],
        cwd=CHECKOUT,
        env={**os.environ, **SANITIZER_OPTIONS, "LD_PRELOAD": preloaded},
        capture_output=True,
        text=True,
    )


def drive_builds(names: tuple[str, ...], seed: int, scenes: int, crowd: int) -> list[KernelFigures]:
    """Compiles builds with sanitizers, and checks hostile scenes and a crowd in a process of each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = compile_sanitized(name, Path(folder) / f"{name}.so")
            started = time.monotonic()
            options = ("--seed", str(seed), "--scenes", str(scenes), "--crowd", str(crowd), "--hostile-only")
            done = drive(name, path, *options)
            seconds, failed = time.monotonic() - started, done.returncode != 0
            report = done.stderr[-4000:] if failed else ""
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
            found.append(KernelFigures(name, seed, scenes, crowd, int(failed), seconds, peak, report))
    return found


def plain_crowd(crowd: int) -> KernelFigures:
    """Draws a crowd with the installed kernels, in this process."""
    from tests.rasterization.hostile_cases import a_crowd_in_one_tile

    started = time.monotonic()
    a_crowd_in_one_tile(crowd)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    build = f"{library.load_kernels().instruction_set}, plain"
    return KernelFigures(build, 0, 0, crowd, 0, time.monotonic() - started, peak)


def main() -> None:
    """Drives the chosen builds and prints their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--builds", nargs="+", default=library.available_instruction_sets())
    parser.add_argument("--seed", type=int, default=0, help="seed of the first hostile scene")
    parser.add_argument("--scenes", type=int, default=5000, help="number of hostile scenes")
    parser.add_argument("--crowd", type=int, default=5_000_000, help="number of tiny Gaussians in one tile")
    parser.add_argument("--plain", action="store_true", help="only the crowd, without sanitizers")
    options = parser.parse_args()
    if options.plain:
        found = [plain_crowd(options.crowd)]
    else:
        found = drive_builds(tuple(options.builds), options.seed, options.scenes, options.crowd)
    for figures in found:
        sys.stdout.write(" ".join(f"{name}={value}" for name, value in asdict(figures).items() if value != "") + "\n")
    sys.exit(any(figures.findings for figures in found))


if __name__ == "__main__":
    main()
