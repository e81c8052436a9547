"""`gen-langsplat export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genlangsplat_ns.commands.run_settings import ChoiceSettings


@dataclass(frozen=True, kw_only=True)
class Export(ChoiceSettings):
    """Write the Gaussians that answer a text, or all others, as a file for splat programs: PLY, SPZ or SOG."""

    text: tuple[str, ...] = ()
    """Export the Gaussians that answer any of these texts; without a text, the whole scene."""
    output: Path
    """The file; its ending is the format: .ply, .compressed.ply, .spz or .sog."""
    rest: bool = False
    """Write all Gaussians except the selected ones."""
    latents: Literal["nowhere", "file", "ply"] = "nowhere"
    """Write language latents nowhere, to a .safetensors beside the output, or as properties of a .ply file."""
    frame: Literal["run", "capture", "data"] = "run"
    """Frame: run (turned, centered and scaled by nerfstudio), or capture (of the input poses; data is the same)."""

    def __call__(self) -> None:
        from genlangsplat_ns.scene.export import check_export, export_scene

        if self.text:
            self.queries(self.text)
        check_export(self.output, self.latents, self.overwrite)
        scene = self.open()
        keep = self.choose(scene, self.text).keep if self.text else None
        if self.rest:
            keep = scene.model.drawable() & False if keep is None else ~keep
        export_scene(scene, self.output, keep, self.latents, self.overwrite, self.frame)
