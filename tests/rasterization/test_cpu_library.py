"""Finding, choosing and building the compiled kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import compositing_weights, library, rasterization
from tests.rasterization.gaussian_scenes import small_scene

CHECKOUT = Path(__file__).parents[2]


def test_the_fastest_build_the_processor_runs_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENLANGSPLAT_ISA", raising=False)
    assert library.load_kernels().instruction_set == library.available_instruction_sets()[0]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert library.load_kernels().instruction_set == "baseline"


def test_the_environment_chooses_a_build(instruction_set: str) -> None:
    assert library.load_kernels().instruction_set == instruction_set


def test_an_unknown_build_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLANGSPLAT_ISA", "sse9")
    with pytest.raises(GenLangSplatError, match="GENLANGSPLAT_ISA is 'sse9'; expected one of avx512"):
        library.load_kernels()


def test_without_a_build_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENLANGSPLAT_ISA", raising=False)
    monkeypatch.setattr(library, "library_path", lambda instruction_set: None)
    with pytest.raises(GenLangSplatError, match=r"not built.*apt-get install g\+\+.*pip install"):
        rasterization(**small_scene().arguments())


def test_a_file_that_is_not_a_library_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "_kernels_avx2.so"
    broken.write_bytes(b"not a library")
    with pytest.raises(GenLangSplatError, match=r"_kernels_avx2.so cannot be loaded.*g\+\+"):
        library.Kernels(broken, "avx2")


def test_an_outdated_build_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "INTERFACE_VERSION", -1)
    path = library.library_path(library.available_instruction_sets()[0])
    assert path is not None
    with pytest.raises(GenLangSplatError, match=r"interface version .* expected -1"):
        library.Kernels(path, "avx2")


def test_installing_without_a_compiler_succeeds_and_builds_nothing(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-compiler")
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, "CC": missing, "CXX": missing}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*_kernels_*"))


THREADS_AFTER_RENDERING = """
import os, torch
from genlangsplat_ns.rasterization import compositing_weights, library, rasterization
from tests.rasterization.gaussian_scenes import small_scene
if {own_threads}:
    library.openmp_fork = lambda: None
torch.set_num_threads(3)
torch.ones(1 << 20).exp_()
library.load_kernels()
before = len(os.listdir("/proc/self/task"))
image = rasterization(**small_scene(count=2000, width=150, height=110).arguments())[0]
print(len(os.listdir("/proc/self/task")) - before, image.double().sum().item())
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list a process's threads")
@pytest.mark.skipif(library.openmp_fork() is None, reason="this torch has no OpenMP runtime")
def test_the_kernels_run_on_the_threads_of_torch_or_on_some_that_end_with_the_call() -> None:
    def run(own_threads: bool) -> tuple[str, str]:
        command = [sys.executable, "-c", THREADS_AFTER_RENDERING.format(own_threads=own_threads)]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        kept_threads, total = done.stdout.split()
        return kept_threads, total

    assert run(own_threads=False) == run(own_threads=True)
    assert run(own_threads=True)[0] == "0"


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="this system does not tell a process's memory there")
def test_kernel_memory_is_freed_with_its_owner_without_running_python() -> None:
    scene = small_scene(count=20_000, width=400, height=300)
    lines: list[str] = []

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        lines.append(frame.f_code.co_filename)
        return trace

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    weights = compositing_weights(scene.gaussians, scene.view)
    nbytes, pointer = weights.nbytes, weights._pointer
    assert pointer.value
    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        del weights
    finally:
        sys.settrace(earlier)
    assert pointer.value is None
    assert not [line for line in lines if line != __file__]
    before = resident()
    for _ in range(30):
        compositing_weights(scene.gaussians, scene.view)
    assert resident() - before < 15 * nbytes


DENORMALS_AFTER_RENDERING = """
import threading
import numpy, torch
from genlangsplat_ns.rasterization import rasterization
from tests.rasterization.gaussian_scenes import small_scene
rasterization(**small_scene().arguments())
def multiply():
    one = numpy.float32(1e-40) * numpy.float32(1)
    many = torch.full((1 << 20,), 1e-40) * 1
    print(bool(one > 0) and bool((many > 0).all()))
multiply()
thread = threading.Thread(target=multiply)
thread.start()
thread.join()
"""


def test_rendering_does_not_disable_denormal_numbers_for_the_process(instruction_set: str) -> None:
    command = [sys.executable, "-c", DENORMALS_AFTER_RENDERING]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr
    # A library linked with fast-math disables them for the whole process, in a constructor of this name.
    path = library.library_path(instruction_set)
    assert path is not None and b"set_fast_math" not in path.read_bytes()
