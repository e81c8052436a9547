"""`gen-langsplat costs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from genlangsplat_ns.utils.console import CONSOLE


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Show what finished runs cost, side by side: the time of every stage, memory and bytes on disk."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Folders of runs, or their report.json."""

    def __call__(self) -> None:
        from rich.markup import escape
        from rich.table import Table

        from genlangsplat_ns.errors import GenLangSplatError
        from genlangsplat_ns.scene.cost_table import compare_costs, read_costs, title_of_run

        if not self.runs:
            raise GenLangSplatError("Found no run to show. Give the folders of one or several finished runs.")
        documents = [read_costs(path) for path in self.runs]
        table = Table("", *(escape(title_of_run(path)) for path in self.runs), title="Costs")
        for name, cells in compare_costs(documents):
            table.add_row(escape(name), *cells)
        CONSOLE.print(table)
        for path, costs in zip(self.runs, documents, strict=True):
            for note in costs["not_counted"]:
                CONSOLE.print(f"{escape(title_of_run(path))}: not counted: {escape(note)}.")
