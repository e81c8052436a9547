"""`gen-langsplat describe`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.commands.run_settings import RunSettings
from genlangsplat_ns.features.settings import LevelName
from genlangsplat_ns.language.settings import ScoreSettings
from genlangsplat_ns.utils.console import CONSOLE


@dataclass(frozen=True, kw_only=True)
class Describe(RunSettings):
    """Describe a scene: groups of Gaussians with similar meaning, each with the best texts of a vocabulary."""

    vocabulary: Path | None = None
    """File with one text per line; the default is a list of about 120 common things."""
    level: LevelName = "whole"
    """Level whose latents are grouped."""
    groups: int = 12
    """Maximum number of groups."""
    texts: int = 3
    """Number of texts per group."""
    scores: tyro.conf.OmitArgPrefixes[ScoreSettings] = field(default_factory=ScoreSettings)
    """How the texts of the vocabulary are scored."""
    output: Path | None = None
    """JSON file for the groups."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __call__(self) -> None:
        from genlangsplat_ns.language.query import TextQuery
        from genlangsplat_ns.language.vocabulary import read_vocabulary
        from genlangsplat_ns.scene.description import describe_scene
        from genlangsplat_ns.utils.files import atomic_path, check_new_file

        query = TextQuery.of(read_vocabulary(self.vocabulary), self.scores)
        if self.output is not None:
            check_new_file(self.output, self.overwrite)
        document = describe_scene(self.open(), query, self.level, self.groups, self.texts)
        CONSOLE.print(table_of(document))
        if self.output is not None:
            with atomic_path(self.output) as path:
                path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")


def table_of(document: dict[str, Any]) -> Table:
    """Builds a table of the groups."""
    table = Table("Gaussians", "center", "texts", title=f"Groups at the level {document['level']}")
    for group in document["groups"]:
        center = ", ".join(f"{value:.2f}" for value in group["centroid"] or ())
        texts = ", ".join(f"{item['text']} {item['score']:.2f}" for item in group["texts"])
        table.add_row(f"{group['gaussians']:,}", center, escape(texts))
    return table
