"""`gen-langsplat convert`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.views.settings import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Import LangSplat's language_features (_f.npy, _s.npy) for training, or export features to such files."""

    views: tyro.conf.OmitArgPrefixes[ViewSettings]
    """The views."""
    features: Annotated[FeatureSettings, tyro.conf.arg(name="")] = field(default_factory=FeatureSettings)
    """Masks and encoder."""
    from_langsplat: Path | None = None
    """LangSplat's folder language_features to import; then train with --pipeline.datamanager.masks langsplat."""
    to_langsplat: Path | None = None
    """Folder for the exported files."""
    overwrite: bool = False
    """Let --to-langsplat replace existing files."""

    def __call__(self) -> None:
        if (self.from_langsplat is None) == (self.to_langsplat is None):
            raise GenLangSplatError(
                "Found none or both of two folders. Give either --from-langsplat FOLDER or --to-langsplat FOLDER."
            )
        from genlangsplat_ns.scene.extraction import export_langsplat, import_langsplat, open_views, training_command

        if self.to_langsplat is not None:
            export_langsplat(open_views(self.views, self.features), self.to_langsplat, self.overwrite)
        elif self.from_langsplat is not None:
            views = open_views(self.views, replace(self.features, masks="langsplat"))
            import_langsplat(views, self.from_langsplat)
            CONSOLE.print(f"Train with:\n    {escape(training_command(views))}", soft_wrap=True)
