"""The tables of the benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from rich.table import Table

from genlangsplat_ns.utils.console import CONSOLE


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, caption: str | None = None
) -> None:
    """Prints a table.

    Args:
        headings: One per column.
        rows: The cells of each row; a row without cells draws a line.
        title: Line above the table.
        caption: Line below the table.
    """
    table = Table(*headings, title=title, caption=caption)
    for cells in rows:
        if cells:
            table.add_row(*cells)
        else:
            table.add_section()
    CONSOLE.print(table)


def with_range(middle: float, least: float, most: float, digits: str) -> str:
    """Formats a value with its range, like `0.92 (0.90 to 0.95)`, and a value without a range alone."""
    alone = f"{middle:{digits}}"
    return alone if least == most else f"{alone} ({least:{digits}} to {most:{digits}})"


def mean_with_range(values: Sequence[float], digits: str) -> str:
    """Formats the mean of values with their range."""
    return with_range(statistics.mean(values), min(values), max(values), digits)
