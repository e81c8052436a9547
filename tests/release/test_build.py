"""The sdist builds from the files of a clone, and the wheel from the sdist alone; `make wheel` also tries the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from release.check_distributions import sdist_faults, wheel_faults
from tests.release.project import ROOT

BUILD_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


def clone(folder: Path) -> Path:
    """Copies the files that git knows: without kernels that were compiled, and without lists of earlier builds."""
    try:
        listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the files of a clone, as git lists them")
    for name in listing.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
def test_sdist_and_wheel_are_complete(tmp_path: Path) -> None:
    source, out = clone(tmp_path / "clone"), tmp_path / "out"
    out.mkdir()
    subprocess.run([sys.executable, "-c", BUILD_SDIST, str(out)], cwd=source, check=True, capture_output=True)
    (sdist,) = out.iterdir()
    assert list(sdist_faults(sdist)) == []
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(out), str(sdist)], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    assert list(wheel_faults(wheel)) == []
