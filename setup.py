"""Builds the CPU rasterizer once per instruction set; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import platform
from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("genlangsplat_ns/rasterization/kernels")

# The kernels ask for rounding as written (no fast-math): NaN checks and results equal between both passes rely on it.
COMMON_FLAGS = (
    *("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-pthread", "-g0"),
    # GCC warns of its own AVX-512 header.
    *("-Wno-uninitialized", "-Wno-maybe-uninitialized"),
)
AVX2_FLAGS = ("-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt", "-ffp-contract=off")
INSTRUCTION_SETS = {
    "avx512": (*AVX2_FLAGS, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mprefer-vector-width=512"),
    "avx2": AVX2_FLAGS,
    "baseline": (),
}


def kernel_extensions() -> list[Extension]:
    """One optional library per instruction set: without a compiler the package installs and says later what to do."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    names = INSTRUCTION_SETS if is_x86 else ("baseline",)
    return [
        Extension(
            name=f"genlangsplat_ns.rasterization._kernels_{name}",
            sources=[str(KERNELS / "kernels.cpp")],
            depends=[str(path) for path in sorted(KERNELS.glob("*.h"))],
            extra_compile_args=[*COMMON_FLAGS, *INSTRUCTION_SETS[name]],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
        for name in names
    ]


if __name__ == "__main__":
    setup(ext_modules=kernel_extensions())
