"""The Gaussians of a run that texts choose: what `export` writes and `remove` takes away."""

from __future__ import annotations

from dataclasses import dataclass, field

from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.selection import Selection, SelectionSettings
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.utils.console import CONSOLE


@dataclass(frozen=True)
class Choice:
    """What to choose.

    Attributes:
        query: Gaussians that answer any of its texts are chosen.
        without: Gaussians that answer any of these texts are not.
        settings: Opacity floor and clean-up of each text's selection.
        grow: Gaussians within this distance of chosen ones are chosen too; before `without` counts.
    """

    query: TextQuery
    without: TextQuery | None = None
    settings: SelectionSettings = field(default_factory=SelectionSettings)
    grow: float = 0.0

    def of(self, scene: LanguageScene) -> Selection:
        """The chosen Gaussians of a scene.

        Raises:
            GenLangSplatError: Nothing is chosen.
        """
        chosen = _any_text(scene, self.query, self.settings).grown(self.grow)
        if self.without is not None:
            chosen = chosen - _any_text(scene, self.without, self.settings)
        texts = ", ".join(f'"{text}"' for text in self.query.texts)
        chosen = chosen.require_some(f"{texts} above a relevancy of {self.query.threshold}")
        lowest, highest = (", ".join(f"{value:.3f}" for value in corner) for corner in chosen.box or ())
        CONSOLE.print(
            f"Chose {chosen.count:,} of {len(chosen.keep):,} Gaussians, in the box from ({lowest}) to ({highest})."
        )
        return chosen


def _any_text(scene: LanguageScene, query: TextQuery, settings: SelectionSettings) -> Selection:
    first, *others = (answer.selection for answer in scene.find(scene.embed(query), settings))
    for other in others:
        first = first | other
    return first
