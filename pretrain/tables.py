"""Tables of measurements."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from genlangsplat_ns.utils.console import CONSOLE
from pretrain.fidelity import COLLAPSED


def show_fidelity(title: str, heading: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a table of measurements, and a warning for collapsed latents; all rows must have the same figures."""
    columns = list(next(iter(rows.values())))
    table = Table(heading, *columns, title=title)
    for name, row in rows.items():
        table.add_row(name, *(f"{row[column]:.2e}" if column == "mse" else f"{row[column]:.3f}" for column in columns))
    CONSOLE.print(table)
    for name, row in rows.items():
        if row["latent usage"] < COLLAPSED:
            CONSOLE.print(
                f"[yellow]{name}: the latents collapsed; they use {row['latent usage']:.0%} of their dimensions."
            )
