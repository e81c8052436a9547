"""What commands print with: the rich console, and the log of the library as plain lines."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.markup import escape

CONSOLE = Console(highlight=False)

PACKAGES = ("genlangsplat_ns", "pretrain")
"""Packages whose log the commands show."""


def show() -> None:
    """Shows the library's log and progress on the console of this process; a second call changes nothing."""
    for logger in map(logging.getLogger, PACKAGES):
        if not _handlers(logger):
            logger.addHandler(ConsoleHandler())
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        # Some libraries add a handler to the root logger, which would print each line again.
        logger.propagate = False


def is_shown() -> bool:
    """Whether `show` was called in this process."""
    return bool(_handlers(logging.getLogger(PACKAGES[0])))


def hide() -> None:
    """Undoes `show`."""
    for logger in map(logging.getLogger, PACKAGES):
        for handler in _handlers(logger):
            logger.removeHandler(handler)
        logger.propagate = True


class ConsoleHandler(logging.Handler):
    """Prints log records as plain lines, warnings in yellow."""

    def emit(self, record: logging.LogRecord) -> None:
        message = escape(record.getMessage())
        CONSOLE.print(f"[yellow]{message}[/yellow]" if record.levelno >= logging.WARNING else message)


def _handlers(logger: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if isinstance(handler, ConsoleHandler)]
