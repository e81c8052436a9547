"""The project's rich console and its progress bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

CONSOLE = Console(highlight=False)

Item = TypeVar("Item")


class RateColumn(ProgressColumn):
    """Shows how many items a second are done."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "-/s", style="progress.data.speed")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items behind a progress bar with count, rate and time left.

    Args:
        items: What to go through.
        description: The words before the bar.
        total: How many items there are, when `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(*_columns(), console=CONSOLE) as progress:
        yield from progress.track(items, total=total, description=description)


class Bar:
    """A progress bar that is moved by hand."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def move_to(self, completed: int) -> None:
        """Shows how much is done in all."""
        self._progress.update(self._task, completed=completed)

    def advance(self, count: int = 1) -> None:
        """Shows that so much more is done."""
        self._progress.update(self._task, advance=count)

    def describe(self, description: str) -> None:
        """Changes the words before the bar."""
        self._progress.update(self._task, description=description)


@contextmanager
def moving_bar(description: str, total: int, completed: int = 0, visible: bool = True) -> Iterator[Bar]:
    """Shows a progress bar for the length of the block, for work that is no walk through items.

    Args:
        description: The words before the bar.
        total: How much there is to do.
        completed: How much is done already.
        visible: Whether it is shown at all.
    """
    with Progress(*_columns(), console=CONSOLE, disable=not visible) as progress:
        yield Bar(progress, progress.add_task(description, total=total, completed=completed))


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
