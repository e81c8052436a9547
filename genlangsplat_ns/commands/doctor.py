"""`gen-langsplat doctor`."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.utils.console import CONSOLE, hide

if TYPE_CHECKING:
    from genlangsplat_ns.installation.checks import Finding

COLORS = {"ok": "green", "warning": "yellow", "missing": "red"}


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check the installation: versions, device, kernels, weights, autoencoders, what auto takes, and a scene's needs.

    The exit status is 1 only if something is broken that both methods need. Nothing is downloaded.
    """

    data: Path | None = None
    """Folder of a scene, to estimate the disk and memory that it needs."""
    data_format: str = "nerfstudio"
    """Data format of the scene in nerfstudio."""
    json: Path | None = None
    """JSON file for the findings."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __call__(self) -> None:
        from genlangsplat_ns.installation.checks import CHECKS, check_installation
        from genlangsplat_ns.installation.scene_needs import check_scene

        if self.json is not None:
            check_file(self.json, self.overwrite)
        # What auto takes is a finding, and not to be said twice.
        hide()
        scene = () if self.data is None else (("scene", partial(check_scene, self.data, self.data_format), False),)
        findings = check_installation((*CHECKS, *scene))
        CONSOLE.print(table_of(findings))
        broken = [finding.name for finding in findings if finding.stops]
        if self.json is not None:
            write_findings(self.json, findings)
        if broken:
            CONSOLE.print(f"[bold red]Neither method works:[/bold red] {escape(', '.join(broken))}.")
            sys.exit(1)


def table_of(findings: list[Finding]) -> Table:
    """Builds a table with a line for each finding, and below it what to do."""
    table = Table("check", "state")
    # Paths and commands are long, and have to be whole.
    table.add_column("found, and what to do", overflow="fold")
    for finding in findings:
        remedy = f"\n[bold]{escape(finding.remedy)}[/bold]" if finding.remedy else ""
        color = COLORS[finding.state]
        table.add_row(escape(finding.name), f"[{color}]{finding.state}[/{color}]", escape(finding.found) + remedy)
    return table


def check_file(path: Path, overwrite: bool) -> None:
    """Checks before the checks, which take a while, that the file of the findings can be written.

    Raises:
        GenLangSplatError: It exists and may not be replaced, or cannot be written.
    """
    # A broken installation, which the checks are to describe, may lack what this import needs.
    with suppress(ImportError):
        from genlangsplat_ns.utils.files import check_new_file

        check_new_file(path, overwrite)


def write_findings(path: Path, findings: list[Finding]) -> None:
    """Writes the findings as JSON: `works`, and one entry for each finding."""
    # Only here, because a broken installation may lack what this import needs.
    from genlangsplat_ns.utils.files import atomic_path

    document = {
        "works": not any(finding.stops for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
