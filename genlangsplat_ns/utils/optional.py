"""Optional packages of the extras in pyproject.toml."""

from __future__ import annotations

from importlib.util import find_spec

from genlangsplat_ns.errors import GenLangSplatError


def require_extra(extra: str, *modules: str) -> None:
    """Checks that the packages of an extra are installed.

    Raises:
        GenLangSplatError: One of the modules is missing.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise GenLangSplatError(
            f"This command needs {' and '.join(missing)}, found no such package. Install it with "
            f'`pip install "genlangsplat-ns[{extra}]"`.'
        )
