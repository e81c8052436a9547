"""Imports nerfstudio's list of methods faster, without the methods that it could install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nerfstudio.configs import external_methods


@contextmanager
def installed_methods_only() -> Iterator[None]:
    """Leaves methods that are not installed out of nerfstudio's list if the list is first imported in this block.

    nerfstudio 1.1.5 inspects the whole call stack for each of them, which takes longer the more modules are loaded: a
    third of the time of `gen-langsplat query`. No command of this package uses them, and nerfstudio's own commands
    import the list before this package, so they still offer all methods.
    """
    methods = external_methods.external_methods
    left_out = methods[:]
    methods.clear()
    try:
        yield
    finally:
        methods[:] = left_out
