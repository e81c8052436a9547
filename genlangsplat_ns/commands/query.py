"""`gen-langsplat query`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.commands.run_settings import RunSettings
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import QueryMode, QuerySettings, SelectionSettings, split_texts
from genlangsplat_ns.scene.settings import CameraSettings
from genlangsplat_ns.utils.console import CONSOLE

if TYPE_CHECKING:
    from genlangsplat_ns.language.query import TextQuery


@dataclass(frozen=True, kw_only=True)
class Query(RunSettings):
    """Query a trained run: write overlays and masks of its views or videos, and query.json with scores and peaks."""

    text: tuple[str, ...]
    """Texts to find, each answered separately; semicolons inside a text separate several."""
    output_dir: Path
    """Folder for the images and query.json."""
    mode: QueryMode = "gaussian"
    """gaussian scores every Gaussian once and renders views fast; rendered scores every pixel (the paper)."""
    video: bool = False
    """Write one video per text (needs ffmpeg) instead of images."""
    masks_only: bool = False
    """Write only masks/IMAGE.png for each view, to train on what answers any text: white is kept, at the size and with
    the lens of the photograph, as nerfstudio and COLMAP read them; transforms_masked.json lists them."""
    mask_names: Literal["stem", "full"] = "stem"
    """With masks only: x.png (stem, for nerfstudio) or x.jpg.png (full, for COLMAP) for the photograph x.jpg."""
    overwrite: bool = False
    """With masks only: replace existing masks."""
    query: tyro.conf.OmitArgPrefixes[QuerySettings] = field(default_factory=QuerySettings)
    """How texts are scored."""
    selection: tyro.conf.OmitArgPrefixes[SelectionSettings] = field(default_factory=SelectionSettings)
    """Which Gaussians above the threshold are counted in query.json."""
    cameras: tyro.conf.OmitArgPrefixes[CameraSettings] = field(default_factory=CameraSettings)
    """The cameras of the query."""

    def __call__(self) -> None:
        from genlangsplat_ns.language.query import TextQuery
        from genlangsplat_ns.scene.query_views import query_views, require_ffmpeg

        query = TextQuery.of(split_texts(*self.text), self.query)
        if self.masks_only:
            self._write_masks(query)
            return
        if self.video:
            require_ffmpeg()
        scene = self.open(photographs=self.cameras.camera_path is None)
        document = query_views(scene, query, self.output_dir, self.cameras, self.selection, self.mode, self.video)
        CONSOLE.print(summary_of(document["selections"], document["results"]))
        kind = "Videos" if self.video else "Images"
        CONSOLE.print(f"{kind} and query.json are in {escape(str(self.output_dir))}.")

    def _write_masks(self, query: TextQuery) -> None:
        from genlangsplat_ns.scene.object_masks import MASKED_TRANSFORMS, write_object_masks

        cameras = self.cameras
        if self.video or cameras.camera_path is not None or cameras.interpolate is not None:
            raise GenLangSplatError(
                "Found --masks-only with --video, --camera-path or --interpolate; masks belong to photographs. Omit "
                "the other option."
            )
        written = write_object_masks(
            self.open(photographs=True),
            *(query, self.output_dir, cameras.split, self.mode, self.mask_names, self.selection, self.overwrite),
        )
        listed = [path for path in written if path.name == MASKED_TRANSFORMS]
        folder = escape(str(self.output_dir / "masks"))
        CONSOLE.print(f"{len(written) - len(listed)} masks are in {folder}.")
        if listed:
            CONSOLE.print(f"To train on them: ns-train splatfacto --data {escape(str(listed[0]))}")


def summary_of(selections: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> Table:
    """Builds a table with the best view of each text and the number of Gaussians that answer it."""
    table = Table("text", "best view", "split", "score", "level", "peak x, y", "Gaussians")
    for selection in selections:
        matching = (result for result in results if result["text"] == selection["text"])
        best = max(matching, key=lambda result: result["score"])
        peak, count = ", ".join(map(str, best["peak"])), f"{selection['gaussians']:,}"
        row = best["text"], best["view"], best["split"], f"{best['score']:.3f}", best["level"], peak, count
        table.add_row(*map(escape, row))
    return table
