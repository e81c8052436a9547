"""Values that are made on first use."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from genlangsplat_ns.utils.lazy import lazy_exports, lazy_property

CALLS: list[int] = []


@dataclass(frozen=True)
class Square:
    side: int

    @lazy_property
    def area(self) -> int:
        """The area."""
        CALLS.append(self.side)
        return self.side**2


def test_a_lazy_property_is_computed_once_for_each_object() -> None:
    CALLS.clear()
    small, large = Square(2), Square(3)
    assert [small.area, small.area, large.area] == [4, 4, 9] and CALLS == [2, 3]
    assert Square.area.__doc__ == "The area."


def test_exports_are_imported_when_they_are_asked_for() -> None:
    get, names = lazy_exports("here", {"Path": "pathlib"})
    assert get("Path").__name__ == "Path" and names() == ["Path"]
    with pytest.raises(AttributeError, match="module 'here' has no attribute 'Pth'"):
        get("Pth")
