"""Imports the optional packages that contain the weights of the embedded encoder."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from genlangsplat_ns.errors import GenLangSplatError


def import_wheel(module: str) -> ModuleType:
    """Imports a module of the optional `embedded` packages.

    Raises:
        GenLangSplatError: If the module or one of its dependencies is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _not_installed(error.name) from error


def import_file_of_wheel(package: str, file_name: str) -> ModuleType:
    """Imports one self-contained file of a package without importing the package.

    Raises:
        GenLangSplatError: If the package is not installed or has no such file.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise _not_installed(package)
    file = Path(found.submodule_search_locations[0]) / file_name
    spec = importlib.util.spec_from_file_location(f"{package}_{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise GenLangSplatError(
            f"The package {package} has no {file_name}. Install the version that this project requires."
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _not_installed(package: str | None) -> GenLangSplatError:
    return GenLangSplatError(
        f"The encoder 'conse' needs the package {package!r}, which is not installed. "
        'Install it with `pip install "genlangsplat-ns[embedded]"`.'
    )
