"""The versions of gsplat that tests compare with our calls, and where their packages are.

`python -m tests.rasterization.gsplat_packages` downloads the missing ones without their kernels; with `--write` it also
stores what they look like, which is only needed for a version that is new here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "build" / "gsplat"
CONTRACTS = ROOT / "tests" / "fixtures" / "gsplat"

VERSIONS = ("1.4.0", "1.5.3", "1.6.0")

COMMITS = {"1.6.0": "c3d59bbb54f91d1c93f1a80dc86960c696b4a059"}
"""Commits of gsplat's repository for versions that PyPI does not have yet."""

REPOSITORY = os.environ.get("GSPLAT_REPOSITORY", "https://github.com/nerfstudio-project/gsplat")


WITHOUT_KERNELS = """
import sys
from unittest.mock import MagicMock
sys.modules["gsplat.csrc"] = MagicMock()
from tests.rasterization.gsplat_probe import main
main()
"""
"""gsplat takes the mock for its compiled kernels, and compiles none."""


def package_folder(version: str) -> Path | None:
    """The folder to put on PYTHONPATH: the installed package's or the downloaded one's; None if there is neither."""
    if metadata.version("gsplat") == version and (spec := find_spec("gsplat")) and spec.origin:
        return Path(spec.origin).parents[1]
    folder = PACKAGES / version
    return folder if (folder / "gsplat" / "rendering.py").is_file() else None


def stored_contract(version: str) -> dict[str, Any]:
    """Signatures and keys of the results as they were when the version was first looked at."""
    contract: dict[str, Any] = json.loads((CONTRACTS / f"{version}.json").read_text(encoding="utf-8"))
    return contract


def probe(folder: Path) -> dict[str, Any]:
    """Runs `gsplat_probe` with a package in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_KERNELS]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-4000:])
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def download(version: str) -> None:
    """Unpacks a version into its folder; a version without a release comes from the repository.

    Raises:
        subprocess.CalledProcessError: The registry or the repository cannot be reached.
    """
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = Path(temporary) / "unpacked"
        if version in COMMITS:
            subprocess.run(["git", "init", "--quiet", temporary], check=True)
            fetch = ["git", "fetch", "--quiet", "--depth", "1", REPOSITORY, COMMITS[version]]
            subprocess.run(fetch, check=True, cwd=temporary)
            archive = Path(temporary) / "gsplat.tar"
            pack = ["git", "archive", f"--output={archive}", "FETCH_HEAD", "gsplat"]
            subprocess.run(pack, check=True, cwd=temporary)
            with tarfile.open(archive) as file:
                file.extractall(unpacked, filter="data")
        else:
            fetch = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", temporary]
            subprocess.run([sys.executable, "-m", "pip", *fetch, f"gsplat=={version}"], check=True)
            with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
                wheel.extractall(unpacked)
        folder = PACKAGES / version
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(unpacked), folder)


def main() -> None:
    """Downloads what is missing, and stores contracts if asked to."""
    for version in VERSIONS:
        if package_folder(version) is None:
            try:
                download(version)
            except subprocess.CalledProcessError as error:
                sys.stdout.write(f"gsplat {version}: only its stored signatures, because {error}\n")
                continue
        folder = package_folder(version)
        assert folder is not None, "was just unpacked"
        sys.stdout.write(f"gsplat {version}: {folder}\n")
        if "--write" in sys.argv[1:]:
            text = json.dumps(probe(folder)["contract"], indent=1)
            CONTRACTS.mkdir(parents=True, exist_ok=True)
            (CONTRACTS / f"{version}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
