"""What commands print with: the rich console, progress bars, and the log of the library as plain lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
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

from genlangsplat_ns.utils.progress import Bar, install_display, show_nothing

CONSOLE = Console(highlight=False)

PACKAGES = ("genlangsplat_ns", "pretrain")
"""Packages whose log the commands show."""


def show() -> None:
    """Shows the library's log and progress on the console of this process; a second call changes nothing."""
    install_display(_rich_bar)
    for name in PACKAGES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
            logger.addHandler(ConsoleHandler())
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        # Some libraries add a handler to the root logger, which would print each line again.
        logger.propagate = False


def is_shown() -> bool:
    """Whether `show` was called in this process."""
    return any(isinstance(handler, ConsoleHandler) for handler in logging.getLogger(PACKAGES[0]).handlers)


def hide() -> None:
    """Undoes `show`."""
    install_display(show_nothing)
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, ConsoleHandler)]
        logger.propagate = True


class ConsoleHandler(logging.Handler):
    """Prints log records as plain lines, warnings in yellow."""

    def emit(self, record: logging.LogRecord) -> None:
        message = escape(record.getMessage())
        CONSOLE.print(f"[yellow]{message}[/yellow]" if record.levelno >= logging.WARNING else message)


class RateColumn(ProgressColumn):
    """Shows how many items a second are done."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "-/s", style="progress.data.speed")


class RichBar(Bar):
    """A progress bar of rich."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def move_to(self, completed: int) -> None:
        self._progress.update(self._task, completed=completed)

    def advance(self, count: int = 1) -> None:
        self._progress.update(self._task, advance=count)

    def describe(self, description: str) -> None:
        self._progress.update(self._task, description=description)


@contextmanager
def _rich_bar(description: str, total: int | None, completed: int) -> Iterator[Bar]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn())
    with Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=CONSOLE) as progress:
        yield RichBar(progress, progress.add_task(description, total=total, completed=completed))
