"""Imports the optional packages that contain the weights of the embedded encoder."""

from __future__ import annotations

import importlib
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
        raise GenLangSplatError(
            f"The encoder 'conse' needs the package {error.name!r}, which is not installed. "
            'Install it with `pip install "genlangsplat-ns[embedded]"`.'
        ) from error
