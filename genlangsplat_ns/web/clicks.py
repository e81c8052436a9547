"""What lies under a click on the page: its names, its place, and what looks like it. As in ns-viewer's panel."""

from __future__ import annotations

import math
from dataclasses import dataclass

from genlangsplat_ns.language.settings import LevelRule
from genlangsplat_ns.language.vocabulary import Vocabulary, read_vocabulary
from genlangsplat_ns.utils.lazy import lazy_property
from genlangsplat_ns.viewer.panel import NUM_NAMES
from genlangsplat_ns.viewer.rays import SceneRay
from genlangsplat_ns.web.answers import relevancy_scores
from genlangsplat_ns.web.page_scene import PageScene
from genlangsplat_ns.web.protocol import TextScores

CLICKED = "(like the clicked object)"
"""The text of the scores of what looks like a click."""


@dataclass(frozen=True)
class Names:
    """The texts nearest to what was clicked, with their cosines in descending order, and where the ray hits it."""

    texts: list[tuple[str, float]]
    point: tuple[float, float, float] | None


class Clicks:
    """Answers clicks on one page scene. One thread at a time may ask."""

    def __init__(self, page: PageScene) -> None:
        self._page = page

    @lazy_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.embed(read_vocabulary(None), self._page.scene.encoder)

    def names(self, click: SceneRay, level: LevelRule) -> Names:
        """Names what was clicked with common things, each scored at its best level.

        Raises:
            GenLangSplatError: No region was ever seen there.
        """
        tools = self._page.scene.model.tools
        embeddings = tools.embeddings_at(click, level)
        distance = tools.distance_along(click)
        point = None if distance is None else _along(click, distance)
        return Names(self._vocabulary.nearest(embeddings, NUM_NAMES), point)

    def similar(self, click: SceneRay, level: LevelRule) -> TextScores:
        """Scores the Gaussians by how much they look like what was clicked.

        Raises:
            GenLangSplatError: No region was ever seen there.
        """
        (scores,) = relevancy_scores(self._page, self._page.scene.model.tools.query_like(click, level))
        return TextScores(CLICKED, scores.planes, scores.limits)


def _along(click: SceneRay, distance: float) -> tuple[float, float, float]:
    length = math.hypot(*click.direction)
    x, y, z = (start + distance * step / length for start, step in zip(click.origin, click.direction, strict=True))
    return x, y, z
