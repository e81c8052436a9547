"""Progress of long work: library code reports it, and a command decides how to show it.

Nothing is shown until a program installs a display, as `genlangsplat_ns.utils.console.show` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

Item = TypeVar("Item")


class Bar:
    """A progress bar. This one shows nothing."""

    def move_to(self, completed: int) -> None:
        """Sets how much is done in total."""

    def advance(self, count: int = 1) -> None:
        """Adds to what is done."""

    def describe(self, description: str) -> None:
        """Changes the words before the bar."""


Display = Callable[[str, "int | None", int], AbstractContextManager[Bar]]
"""Opens a bar, given its description, its total (None when unknown) and how much is done already."""


def show_nothing(description: str, total: int | None, completed: int) -> AbstractContextManager[Bar]:
    return nullcontext(Bar())


_display: Display = show_nothing


def install_display(display: Display) -> None:
    """Shows all further progress with this display."""
    global _display
    _display = display


def progress_bar(description: str, total: int, completed: int = 0, visible: bool = True) -> AbstractContextManager[Bar]:
    """Opens a progress bar for the length of a block. `completed` of `total` items are done already."""
    return (_display if visible else show_nothing)(description, total, completed)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items behind a progress bar with count, rate and time left. `total` is for items without a length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with _display(description, total, 0) as bar:
        for item in items:
            yield item
            bar.advance()
