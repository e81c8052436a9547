"""`gen-langsplat remove`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genlangsplat_ns.commands.run_settings import ChoiceSettings


@dataclass(frozen=True, kw_only=True)
class Remove(ChoiceSettings):
    """Write a new run without the Gaussians that answer a text; ns-render and ns-viewer open it like any other run."""

    text: tuple[str, ...]
    """Remove the Gaussians that answer any of these texts."""
    output_dir: Path = Path("outputs")
    """Folder of runs in which the new run is written."""

    def __call__(self) -> None:
        from genlangsplat_ns.scene.removal import write_without
        from genlangsplat_ns.scene_io.runs import read_config
        from genlangsplat_ns.utils.files import check_new_folder, safe_name

        query, _ = self.queries(self.text)
        config = read_config(self.load_config, self.data)
        texts = safe_name(" ".join(query.texts))
        config.output_dir, config.timestamp = self.output_dir.resolve(), f"{config.timestamp}-without-{texts}"
        check_new_folder(config.get_base_dir(), self.overwrite)
        scene = self.open()
        assert scene.stored is not None, "it was opened from a file"
        write_without(scene.stored, config, self.choose(scene, self.text).keep, self.overwrite)
