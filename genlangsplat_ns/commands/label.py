"""`gen-langsplat label`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.commands.run_settings import RunSettings
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import LabelSettings, split_texts
from genlangsplat_ns.utils.console import CONSOLE


@dataclass(frozen=True, kw_only=True)
class Label(RunSettings):
    """Give every Gaussian one class and one instance: labels.ply for splat programs, and labels.json."""

    texts: tuple[str, ...] = ()
    """The classes; semicolons inside a text separate several."""
    vocabulary: Path | None = None
    """File with one class per line, instead of texts."""
    output_dir: Path
    """Folder for labels.ply, labels.json and labels-colored.ply."""
    colored: Literal["nowhere", "class", "instance"] = "nowhere"
    """Also write labels-colored.ply, in which every Gaussian has the color of its class or instance."""
    frame: Literal["run", "capture"] = "run"
    """Coordinates of the PLY files: those of the run, or those of the input poses (capture)."""
    overwrite: bool = False
    """Replace existing output."""
    settings: tyro.conf.OmitArgPrefixes[LabelSettings] = field(default_factory=LabelSettings)
    """How Gaussians get their class and form instances."""

    def __call__(self) -> None:
        from genlangsplat_ns.language.labeling import label_query
        from genlangsplat_ns.language.vocabulary import read_vocabulary
        from genlangsplat_ns.scene.labeling import LabelFiles, label_scene

        if bool(self.texts) == (self.vocabulary is not None):
            given = "both" if self.texts else "neither"
            raise GenLangSplatError(f"Found {given} of --texts and --vocabulary, which name the classes; give one.")
        texts = read_vocabulary(self.vocabulary) if self.vocabulary is not None else split_texts(*self.texts)
        query = label_query(texts, self.settings)
        files = LabelFiles(self.output_dir, self.colored)
        files.check(self.overwrite)
        document = label_scene(self.open(), query, self.settings, files, self.frame, self.overwrite)
        CONSOLE.print(table_of(document))
        CONSOLE.print(f"labels.ply and labels.json are in {escape(str(self.output_dir))}.")


def table_of(document: dict[str, Any]) -> Table:
    """Builds a table of the classes that have Gaussians, with their instances."""
    table = Table("class", "text", "Gaussians", "instances", "largest instance", "its center")
    instances = {entry["instance_id"]: entry for entry in document["instances"]}
    for entry in document["classes"]:
        if not entry["gaussians"]:
            continue
        largest = instances[entry["instances"][0]] if entry["instances"] else None
        center = "" if largest is None else ", ".join(f"{value:.2f}" for value in largest["centroid"]["run"])
        size = "" if largest is None else f"{largest['gaussians']:,}"
        row = str(entry["class_id"]), escape(entry["name"]), f"{entry['gaussians']:,}", str(len(entry["instances"]))
        table.add_row(*row, size, center)
    return table
