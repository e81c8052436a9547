"""What pyproject.toml says; Python 3.10 has no reader of TOML, so setuptools' reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from setuptools.config.pyprojecttoml import load_file

ROOT = Path(__file__).parents[2]


def project() -> dict[str, Any]:
    """The table `project`."""
    return load_file(ROOT / "pyproject.toml")["project"]


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Every direct dependency with the extra that it belongs to, which is empty for those always needed."""
    table = project()
    for extra, words in {"": table["dependencies"], **table["optional-dependencies"]}.items():
        yield from ((extra, Requirement(each)) for each in words)
