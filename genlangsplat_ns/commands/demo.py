"""`gen-langsplat demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.utils.console import CONSOLE


@dataclass(frozen=True)
class Demo:
    """Build the gallery scene, train both phases, query texts, and write images and a report."""

    output_dir: Path = Path("demo-output")
    """Folder for the scene, the run, the images and the report."""

    def __call__(self) -> None:
        from genlangsplat_ns.demo.training import run_gallery_demo

        print_results(run_gallery_demo(self.output_dir))


def print_results(document: dict[str, Any]) -> None:
    """Prints what `run_demo` returned: a row per text, and the means of every protocol and split."""
    from genlangsplat_ns.demo.run import PROTOCOLS, SPLIT_TITLES

    table = Table("text", "object", "found", "mean IoU", "found in", title="Held-out views, protocol threshold")
    for text in document["queries"]:
        verdict = "[green]yes[/green]" if text["found"] else "[red]no[/red]"
        hits = f"{text['hits']} of {text['views']}"
        table.add_row(escape(text["text"]), text["category"], verdict, f"{text['miou']:.2f}", hits)
    CONSOLE.print(table)
    means = Table("protocol", "split", "pairs", "localization micro", "macro", "mIoU micro", "macro")
    for protocol in PROTOCOLS:
        for split in SPLIT_TITLES:
            summary = document["protocols"][protocol.name][split]
            if summary["pairs"]:
                cells = [f"{summary[mean][key]:.3f}" for key in ("localization", "miou") for mean in ("micro", "macro")]
                means.add_row(protocol.name, split, str(summary["pairs"]), *cells)
    CONSOLE.print(means)
