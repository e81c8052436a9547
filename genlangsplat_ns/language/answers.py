"""Turns relevancy at three levels into answers: chooses a level and finds peaks and masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.levels import LEVELS

MIN_PEAK_OPACITY = 0.1
"""The rule `auto` ignores Gaussians with a lower opacity when it compares the peaks of the levels."""


@dataclass(frozen=True, eq=False)
class LevelChoice:
    """The relevancy of each pixel or Gaussian after the levels are combined, and the level or rule it came from."""

    name: str
    map: Float[Tensor, "place ..."]


@dataclass(frozen=True, eq=False)
class ViewAnswer:
    """The answer to one text in one view.

    Attributes:
        text: The queried text.
        level: The level the answer was read from, or `mean`.
        map: Relevancy of every pixel.
        score: The highest relevancy.
        peak: Pixel (x, y) of the highest relevancy, the first in reading order if several tie.
        mask: Pixels above the query's threshold.
    """

    text: str
    level: str
    map: Float[Tensor, "height width"]
    score: float
    peak: tuple[int, int]
    mask: Bool[Tensor, "height width"]


def choose_level(maps: Float[Tensor, "levels ..."], level: str) -> LevelChoice:
    """Combines the relevancy maps of the levels into one map.

    Args:
        maps: Relevancy of pixels or Gaussians, one map per level; exactly 0 means that the level has no region there.
        level: `mean` averages the nonzero levels at each place; `auto` takes the level with the highest raw peak, the
            first on ties (LangSplat's rule); a name of `LEVELS` takes that level.

    Raises:
        GenLangSplatError: The level is unknown, or the maps do not contain it.
    """
    if level == "mean":
        return LevelChoice(level, maps.sum(dim=0) / (maps > 0).sum(dim=0).clamp(min=1))
    if level == "auto":
        index = int(maps.flatten(start_dim=1).amax(dim=1).argmax())
        return LevelChoice(LEVELS[index], maps[index])
    if level not in LEVELS[: maps.shape[0]]:
        raise GenLangSplatError(
            f'Found the level "{level}" for maps with {maps.shape[0]} levels; choose mean, auto or one of '
            f"{', '.join(LEVELS[: maps.shape[0]])}."
        )
    return LevelChoice(level, maps[LEVELS.index(level)])


def join_levels(
    scores: Float[Tensor, "num_gaussians levels num_texts"],
    opacities: Float[Tensor, " num_gaussians"],
    level: str,
    peak_opacity: float = MIN_PEAK_OPACITY,
) -> tuple[Float[Tensor, "num_gaussians num_texts"], tuple[str, ...]]:
    """Combines the scores of the levels into one score per Gaussian and text. The chosen level holds for all views.

    `level` is as in `choose_level`; `auto` ignores Gaussians with an opacity below `peak_opacity` when it compares
    peaks. Returns the scores, and for each text the level or rule they came from.
    """
    opaque = opacities >= peak_opacity
    joined, names = [], []
    for levels in scores.permute(2, 1, 0):
        name = choose_level(levels[:, opaque], level).name if bool(opaque.any()) else level
        joined.append(choose_level(levels, name).map)
        names.append(name)
    return torch.stack(joined, dim=-1), tuple(names)


def answer_texts(maps: Float[Tensor, "num_texts levels height width"], query: TextQuery) -> list[ViewAnswer]:
    """Reads one answer per text from the `relevancy_maps` of a view, by the query's level rule and threshold."""
    choices = (choose_level(text_maps, query.level) for text_maps in maps)
    return [read_answer(text, choice, query.threshold) for text, choice in zip(query.texts, choices, strict=True)]


def read_answer(text: str, choice: LevelChoice, threshold: float) -> ViewAnswer:
    """Reads the answer to one text from the relevancy of a view."""
    row, column = divmod(int(choice.map.argmax()), choice.map.shape[1])
    score = float(choice.map[row, column])
    return ViewAnswer(text, choice.name, choice.map, score, (column, row), choice.map > threshold)
