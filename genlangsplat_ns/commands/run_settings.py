"""Flags that the commands on finished runs share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from genlangsplat_ns.language.settings import DecoderName, QuerySettings, SelectionSettings

if TYPE_CHECKING:
    from genlangsplat_ns.language.query import TextQuery
    from genlangsplat_ns.language.selection import GaussianSelection
    from genlangsplat_ns.scene.language_scene import LanguageScene


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A finished run and how it is decoded."""

    load_config: Path
    """The run's config.yml."""
    decoder: DecoderName | None = None
    """What decodes latents: the scene's memory, or the autoencoder alone (the paper); None for what the run says."""

    def open(self) -> LanguageScene:
        """Opens the run."""
        from genlangsplat_ns.run import open_run

        return open_run(self.load_config, self.decoder)


@dataclass(frozen=True, kw_only=True)
class ChoiceSettings(RunSettings):
    """Gaussians of a run that texts choose."""

    without: tuple[str, ...] = ()
    """Do not choose Gaussians that answer these texts."""
    grow: float = 0.0
    """Also choose Gaussians within this distance of chosen ones."""
    overwrite: bool = False
    """Replace what is there already."""
    query: tyro.conf.OmitArgPrefixes[QuerySettings] = field(default_factory=QuerySettings)
    """How texts are scored."""
    selection: tyro.conf.OmitArgPrefixes[SelectionSettings] = field(default_factory=SelectionSettings)
    """Which Gaussians above the threshold are selected."""

    def queries(self, texts: tuple[str, ...]) -> tuple[TextQuery, TextQuery | None]:
        """The query that chooses Gaussians, and the one that excludes some."""
        from genlangsplat_ns.language.query import TextQuery

        return TextQuery.of(texts, self.query), TextQuery.of(self.without, self.query) if self.without else None

    def choose(self, scene: LanguageScene, texts: tuple[str, ...]) -> GaussianSelection:
        """Chooses Gaussians and prints how many and where they are.

        Raises:
            GenLangSplatError: Nothing is chosen.
        """
        from genlangsplat_ns.utils.console import CONSOLE

        query, without = self.queries(texts)
        chosen = scene.field.select(
            scene.embed(query), self.selection, self.grow, None if without is None else scene.embed(without)
        )
        lowest, highest = (", ".join(f"{value:.3f}" for value in corner) for corner in chosen.box or ())
        CONSOLE.print(
            f"Chose {chosen.count:,} of {len(chosen.keep):,} Gaussians, in the box from ({lowest}) to ({highest})."
        )
        return chosen
