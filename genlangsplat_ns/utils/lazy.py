"""Values that are made on first use: exports of packages, and properties of objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


def lazy_exports(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Creates the `__getattr__` and `__dir__` of a package from the exported names and the modules that define them."""

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(names[name]), name)

    return get, lambda: sorted(names)


class lazy_property(Generic[Value]):
    """`functools.cached_property` without its lock.

    Up to Python 3.11 that holds a lock of the whole class. The viewer interrupts its render thread at any line, also
    where a lock would never be released again. Two threads may compute the same value; the last one is kept.
    """

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> lazy_property[Value]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> lazy_property[Value] | Value:
        if instance is None:
            return self
        value = self._function(instance)
        instance.__dict__[self._function.__name__] = value
        return value
