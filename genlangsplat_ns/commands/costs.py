"""`gen-langsplat costs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from genlangsplat_ns.utils.console import CONSOLE

NAME_WIDTH, RUN_WIDTH = 26, 18
"""Columns of the console for the names of the rows and for each run; further runs are in another table."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Show what finished runs cost, side by side: the time of every stage, memory and bytes on disk."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Folders of runs, folders that contain runs, or report.json files."""

    def __call__(self) -> None:
        from rich.markup import escape
        from rich.table import Table

        from genlangsplat_ns.errors import GenLangSplatError
        from genlangsplat_ns.scene.cost_table import compare_costs, find_runs, notes_on_costs, read_costs, title_of_run

        if not self.runs:
            raise GenLangSplatError("Found no run to show. Give the folders of one or several finished runs.")
        found = [find_runs(path) for path in self.runs]
        reports = [report for each in found for report in each.reports]
        documents, titles = [read_costs(report) for report in reports], [title_of_run(report) for report in reports]
        fitting = max(1, (CONSOLE.width - NAME_WIDTH) // RUN_WIDTH)
        for first in range(0, len(reports), fitting):
            shown = slice(first, first + fitting)
            table = Table("", *map(escape, titles[shown]), title="Costs")
            for name, cells in compare_costs(documents[shown]):
                table.add_row(escape(name), *cells)
            CONSOLE.print(table)
        for sentence in notes_on_costs(titles, documents):
            CONSOLE.print(escape(sentence), soft_wrap=True)
        for folder in (folder for each in found for folder in each.without_report):
            CONSOLE.print(escape(f"{folder} has no report, which a training writes at its end."), soft_wrap=True)
