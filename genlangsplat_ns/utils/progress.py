"""Progress of long work. Library code reports it; it is shown once a command has called `console.show`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from typing import TypeVar

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

from genlangsplat_ns.utils import console

Item = TypeVar("Item")


class Bar:
    """A progress bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def move_to(self, completed: int) -> None:
        """Sets how much is done in total."""
        self._progress.update(self._task, completed=completed)

    def advance(self, count: int = 1) -> None:
        """Adds to what is done."""
        self._progress.update(self._task, advance=count)

    def describe(self, description: str) -> None:
        """Changes the words before the bar."""
        self._progress.update(self._task, description=description)


class RateColumn(ProgressColumn):
    """Shows how many items a second are done."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "-/s", style="progress.data.speed")


@contextmanager
def progress_bar(description: str, total: int | None, completed: int = 0, visible: bool = True) -> Iterator[Bar]:
    """Opens a progress bar for the length of a block. `completed` items of `total` (None: unknown) are done already."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn())
    progress = Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console.CONSOLE)
    with progress if visible and console.is_shown() else nullcontext():
        yield Bar(progress, progress.add_task(description, total=total, completed=completed))


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items behind a progress bar with count, rate and time left. `total` is for items without a length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(description, total) as bar:
        for item in items:
            yield item
            bar.advance()
