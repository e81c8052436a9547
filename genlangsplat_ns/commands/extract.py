"""`gen-langsplat extract`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.views.settings import ViewSettings


@dataclass(frozen=True, kw_only=True)
class Extract:
    """Extract and store the regions and embeddings of a scene's views, as training does; continues if interrupted."""

    views: tyro.conf.OmitArgPrefixes[ViewSettings]
    """The views."""
    features: Annotated[FeatureSettings, tyro.conf.arg(name="")] = field(default_factory=FeatureSettings)
    """Masks and encoder."""
    limit: int | None = None
    """Extract only this many views, for example for a preview."""
    preview: bool = False
    """Also write contact sheets: every view with its regions at the three levels."""

    def __call__(self) -> None:
        from genlangsplat_ns.scene.extraction import extract_scene, open_views

        extract_scene(open_views(self.views, self.features), self.limit, self.preview)
