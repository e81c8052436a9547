"""Settings that are stored in the config.yml of a run, which an earlier version may have written."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class StoredSettings:
    """Base of a dataclass of settings that gets the defaults of settings that did not exist when it was stored."""

    def __setstate__(self: DataclassInstance, state: dict[str, Any]) -> None:
        # A plain default is an attribute of the class already.
        for item in fields(self):
            if item.name not in state and item.default_factory is not MISSING:
                self.__dict__[item.name] = item.default_factory()
        self.__dict__.update(state)
