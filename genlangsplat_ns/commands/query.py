"""`gen-langsplat query`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.commands.run_settings import RunSettings
from genlangsplat_ns.language.settings import QueryMode, QuerySettings, SelectionSettings
from genlangsplat_ns.scene.settings import CameraSettings
from genlangsplat_ns.utils.console import CONSOLE


@dataclass(frozen=True, kw_only=True)
class Query(RunSettings):
    """Ask a trained run for texts: overlays and masks of its views or a video, and query.json with scores and peaks."""

    text: tuple[str, ...]
    """What to look for; several texts, also separated by semicolons, are answered one by one."""
    output_dir: Path
    """Folder for the pictures and query.json."""
    mode: QueryMode = "gaussian"
    """gaussian scores every Gaussian once, which makes views fast; rendered scores every pixel (the paper)."""
    video: bool = False
    """Write one video per text (needs ffmpeg) instead of pictures."""
    query: tyro.conf.OmitArgPrefixes[QuerySettings] = field(default_factory=QuerySettings)
    """How texts are scored."""
    selection: tyro.conf.OmitArgPrefixes[SelectionSettings] = field(default_factory=SelectionSettings)
    """Which Gaussians above the threshold are counted in query.json."""
    cameras: tyro.conf.OmitArgPrefixes[CameraSettings] = field(default_factory=CameraSettings)
    """The cameras to ask from."""

    def __call__(self) -> None:
        """Runs the command."""
        from genlangsplat_ns.language.query import TextQuery
        from genlangsplat_ns.scene.query_views import query_views, require_ffmpeg

        query = TextQuery.of(self.text, self.query)
        if self.video:
            require_ffmpeg()
        document = query_views(self.open(), query, self.output_dir, self.cameras, self.selection, self.mode, self.video)
        CONSOLE.print(summary_of(document["selections"], document["results"]))
        kind = "Videos" if self.video else "Pictures"
        CONSOLE.print(f"{kind} and query.json are in {escape(str(self.output_dir))}.")


def summary_of(selections: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> Table:
    """A table of where each text is strongest, and how many Gaussians answer it."""
    table = Table("text", "best view", "split", "score", "level", "peak x, y", "Gaussians")
    for selection in selections:
        own = (result for result in results if result["text"] == selection["text"])
        best = max(own, key=lambda result: result["score"])
        peak, count = ", ".join(map(str, best["peak"])), f"{selection['gaussians']:,}"
        row = best["text"], best["view"], best["split"], f"{best['score']:.3f}", best["level"], peak, count
        table.add_row(*map(escape, row))
    return table
