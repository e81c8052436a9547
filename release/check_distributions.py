"""Checks what a wheel and an sdist of this project contain: `python release/check_distributions.py dist/*`.

It needs only Python, so it runs before anything is installed. The exit status is 1 if something is missing or too much.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

WHEEL_MEGABYTES = 6.0
"""Largest wheel. The files of the embedded encoder have 4.3 MB; kernels with debug information would exceed it."""

SDIST_MEGABYTES = 6.0

PACKAGES = ("genlangsplat_ns", "pretrain")

DATA = (
    "genlangsplat_ns/py.typed",
    *(f"genlangsplat_ns/assets/{name}.safetensors" for name in ("conse-16", "conse-classes")),
    *(f"genlangsplat_ns/web/page/{name}" for name in ("index.html", "app.js", "style.css", "licenses.txt")),
)
"""Files of the packages that are no Python, in the wheel and in the sdist."""

MODULES = ("genlangsplat_ns/cli.py", "genlangsplat_ns/config.py", "pretrain/__main__.py")

SOURCES = (
    *("LICENSE", "CHANGELOG.md", "CITATION.cff", "README.md", "docs/licenses.md", "pyproject.toml", "setup.py"),
    *("genlangsplat_ns/rasterization/kernels/kernels.cpp", "genlangsplat_ns/rasterization/kernels/simd.h"),
)
"""What only the sdist needs: papers, and what compiles the kernels."""

INSTRUCTION_SETS = {"x86_64": ("avx512", "avx2", "baseline")}
"""Builds of the kernels by processor; others have only the last one."""

ENTRY_POINTS = (
    "[console_scripts]\ngen-langsplat = genlangsplat_ns.cli:main",
    "[nerfstudio.method_configs]\ngen-langsplat = genlangsplat_ns.config:gen_langsplat",
    "\ngen-langsplat-lite = genlangsplat_ns.config:gen_langsplat_lite",
)


def wheel_faults(path: Path) -> Iterator[str]:
    """What is wrong with a wheel, one sentence each."""
    yield from _size_faults(path, WHEEL_MEGABYTES)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        folders = [name for name in names if name.endswith(".dist-info/METADATA")]
        info = folders[0].removesuffix("METADATA") if len(folders) == 1 else ""
        if not info:
            yield f"it has {len(folders)} folders of metadata; expected one"
            return
        metadata = archive.read(f"{info}METADATA").decode()
        points = archive.read(f"{info}entry_points.txt").decode() if f"{info}entry_points.txt" in names else ""
    yield from _missing(names, (*DATA, *MODULES, f"{info}licenses/LICENSE"))
    yield from (f"the entry point {point.split()[-3]} is missing" for point in ENTRY_POINTS if point not in points)
    version = path.name.split("-")[1]
    if f"\nVersion: {version}\n" not in metadata:
        yield f"the version in its metadata is not the {version} of its name"
    strangers = {name.split("/")[0] for name in names} - {*PACKAGES, info.rstrip("/")}
    yield from (f"{name} is in it, and does not belong to a package" for name in sorted(strangers))
    sources = [name for name in names if name.endswith((".cpp", ".h", ".o", ".ckpt")) or "/tests/" in name]
    yield from (f"{name} is in it, and nothing needs it after the installation" for name in sorted(sources))
    yield from _kernel_faults(path, names)


def sdist_faults(path: Path) -> Iterator[str]:
    """What is wrong with an sdist, one sentence each."""
    yield from _size_faults(path, SDIST_MEGABYTES)
    with tarfile.open(path) as archive:
        members = [member.name for member in archive.getmembers() if member.isfile()]
    folder = f"{path.name.removesuffix('.tar.gz')}/"
    names = {name.removeprefix(folder) for name in members}
    yield from _missing(names, (*DATA, *MODULES, *SOURCES))
    yield from (f"{name} is in it, and was built" for name in sorted(names) if name.endswith((".so", ".o", ".pyc")))
    strangers = [name for name in sorted(names) if name.split("/")[0] in ("tests", "benchmarks", "examples", "build")]
    yield from (f"{name} is in it, and only a clone needs it" for name in strangers)


def _size_faults(path: Path, megabytes: float) -> Iterator[str]:
    size = path.stat().st_size / 1e6
    if size > megabytes:
        yield f"it has {size:.1f} MB; expected at most {megabytes:.1f}"


def _missing(names: set[str], expected: tuple[str, ...]) -> Iterator[str]:
    return (f"{name} is missing" for name in expected if name not in names)


def _kernel_faults(path: Path, names: set[str]) -> Iterator[str]:
    """Kernels are optional to the installer, so a build without them has to be noticed here."""
    processor = next((name for name in INSTRUCTION_SETS if path.stem.endswith(name)), "")
    for instruction_set in INSTRUCTION_SETS.get(processor, ("baseline",)):
        pattern = re.compile(rf"genlangsplat_ns/rasterization/_kernels_{instruction_set}\..*so")
        if not any(pattern.fullmatch(name) for name in names):
            yield f"the kernels for {instruction_set} are missing: the compiler failed or was not there"


def main(paths: list[Path]) -> int:
    """Prints the size and the faults of each file, and returns the exit status."""
    if not any(path.name.endswith(".whl") for path in paths):
        print("There is no wheel among the files; expected at least one.")
        return 1
    failed = False
    for path in paths:
        faults = list(wheel_faults(path) if path.suffix == ".whl" else sdist_faults(path))
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {'; '.join(faults) or 'complete'}")
        failed |= bool(faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main([Path(word) for word in sys.argv[1:]]))
