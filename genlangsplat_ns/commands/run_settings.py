"""Flags shared by the commands on finished runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from genlangsplat_ns.language.settings import DecoderName, QuerySettings, SelectionSettings, split_texts

if TYPE_CHECKING:
    from genlangsplat_ns.language.query import TextQuery
    from genlangsplat_ns.language.selection import GaussianSelection
    from genlangsplat_ns.scene.language_scene import LanguageScene


@dataclass(frozen=True, kw_only=True)
class StoredRunSettings:
    """A finished run on disk."""

    load_config: Path
    """The run's config.yml."""
    data: Path | None = None
    """Folder of the scene's data, if it moved since the training."""
    safe: bool = False
    """Refuse a run that another user owns, or whose config.yml names objects that no run of nerfstudio has."""

    def __post_init__(self) -> None:
        # A missing file is reported by whoever opens it.
        if self.safe and self.load_config.is_file():
            from genlangsplat_ns.scene_io.trust import require_trusted

            require_trusted(self.load_config)


@dataclass(frozen=True, kw_only=True)
class RunSettings(StoredRunSettings):
    """A finished run and its decoder."""

    decoder: DecoderName | None = None
    """Decoder of the latents: the scene memory, or the autoencoder alone (the paper); None for the decoder of the run.
    """

    def open(self, photographs: bool = False) -> LanguageScene:
        """Opens the run; `photographs` says whether its data must be there."""
        from genlangsplat_ns.run import open_run

        return open_run(self.load_config, self.decoder, data=self.data, photographs=photographs)


@dataclass(frozen=True, kw_only=True)
class ChoiceSettings(RunSettings):
    """A selection of the Gaussians of a run by texts."""

    without: tuple[str, ...] = ()
    """Exclude Gaussians that answer these texts."""
    grow: float = 0.0
    """Also select Gaussians within this distance of selected ones."""
    overwrite: bool = False
    """Replace existing output."""
    query: tyro.conf.OmitArgPrefixes[QuerySettings] = field(default_factory=QuerySettings)
    """How texts are scored."""
    selection: tyro.conf.OmitArgPrefixes[SelectionSettings] = field(default_factory=SelectionSettings)
    """Which Gaussians above the threshold are selected."""

    def queries(self, texts: tuple[str, ...]) -> tuple[TextQuery, TextQuery | None]:
        """Returns the query that selects Gaussians, and the query that excludes some."""
        from genlangsplat_ns.language.query import TextQuery

        query = TextQuery.of(split_texts(*texts), self.query)
        return query, TextQuery.of(split_texts(*self.without), self.query) if self.without else None

    def choose(self, scene: LanguageScene, texts: tuple[str, ...]) -> GaussianSelection:
        """Selects Gaussians and prints their number and bounding box.

        Raises:
            GenLangSplatError: No Gaussian is selected.
        """
        from genlangsplat_ns.utils.console import CONSOLE

        query, without = self.queries(texts)
        chosen = scene.field.select(
            scene.embed(query), self.selection, self.grow, None if without is None else scene.embed(without)
        )
        lowest, highest = (", ".join(f"{value:.3f}" for value in corner) for corner in chosen.box or ())
        CONSOLE.print(
            f"Selected {chosen.count:,} of {len(chosen.keep):,} Gaussians, in the box from ({lowest}) to ({highest})."
        )
        return chosen
