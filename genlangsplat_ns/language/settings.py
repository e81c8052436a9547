"""Settings of queries and selections. This module does not import torch, because every command reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from genlangsplat_ns.errors import GenLangSplatError

QueryMode = Literal["gaussian", "rendered"]
"""`rendered` decodes and scores pixels (the paper); `gaussian` scores every Gaussian once and splats the scores."""

DecoderName = Literal["memory", "autoencoder"]
"""`memory` decodes with the scene memory, `autoencoder` with the pre-trained decoder alone (the paper)."""

LevelRule = Literal["mean", "auto", "subpart", "part", "whole"]
"""How the scores of the levels are combined into one score."""

DEFAULT_NEGATIVES: tuple[str, ...] = ("object", "things", "stuff", "texture")
"""The canonical texts of LERF and LangSplat that every query competes with."""

DEFAULT_TEMPERATURE = 10.0
"""LERF's factor on the cosines before the softmax."""


def split_texts(*lines: str) -> tuple[str, ...]:
    """Splits a line into texts at semicolons and drops blank texts."""
    return tuple(text.strip() for text in ";".join(lines).split(";") if text.strip())


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """How texts are scored.

    Raises:
        GenLangSplatError: The temperature is not positive, or all negatives are blank.
    """

    negatives: tuple[str, ...] = DEFAULT_NEGATIVES
    """Texts that the queried texts compete with; semicolons inside a text separate several."""
    temperature: float = DEFAULT_TEMPERATURE
    """Sharpness of the relevancy; LERF uses 10."""
    prompts: bool = False
    """Embed every text in sentences such as "a photo of ..." and average the embeddings, which helps CLIP."""

    def __post_init__(self) -> None:
        negatives = split_texts(*self.negatives)
        if not negatives:
            raise GenLangSplatError(
                "Found no negative text that is not blank; relevancy needs at least one. Keep the default negatives "
                f"{list(DEFAULT_NEGATIVES)} or give others."
            )
        if not self.temperature > 0:
            raise GenLangSplatError(
                f"Found a temperature of {self.temperature}; it must be positive. Use 10, as LERF does."
            )
        object.__setattr__(self, "negatives", negatives)


@dataclass(frozen=True, kw_only=True)
class QuerySettings(ScoreSettings):
    """How texts are scored, and how answers are read from the scores.

    Raises:
        GenLangSplatError: A setting is out of range, or all negatives are blank.
    """

    level: LevelRule = "mean"
    """Level of the answer: the mean of all levels, the level with the highest peak (auto), or a named level."""
    threshold: float = 0.8
    """Pixels and Gaussians above this relevancy are selected. Scores of the embedded encoder are mostly near 0 or 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level not in LEVEL_RULES:
            raise GenLangSplatError(f'Found the level "{self.level}"; choose one of {", ".join(LEVEL_RULES)}.')
        if not 0.0 <= self.threshold <= 1.0:
            raise GenLangSplatError(f"Found a threshold of {self.threshold}; choose a relevancy from 0 to 1.")


LEVEL_RULES: tuple[LevelRule, ...] = get_args(LevelRule)
"""All level rules."""


@dataclass(frozen=True, kw_only=True)
class SelectionSettings:
    """Which Gaussians above the relevancy threshold are selected.

    Raises:
        GenLangSplatError: A setting is out of range.
    """

    min_opacity: float = 0.05
    """Gaussians with a lower opacity are not selected."""
    clean_up: bool = True
    """Remove groups of selected Gaussians that are small and separate from the largest group."""
    radius: float | None = None
    """Clean-up: Gaussians within this distance form a group; None derives it from the spacing of the Gaussians."""
    smallest_group: float = 0.1
    """Clean-up: remove groups with fewer Gaussians than this share of the largest group; 1 keeps only the largest."""

    def __post_init__(self) -> None:
        for name in ("min_opacity", "smallest_group"):
            if not 0 <= getattr(self, name) <= 1:
                raise GenLangSplatError(f"Found a {name} of {getattr(self, name)}; choose a share from 0 to 1.")
        if self.radius is not None and not 0 < self.radius < float("inf"):
            raise GenLangSplatError(f"Found a radius of {self.radius}; choose a positive length, or omit the radius.")


LabelLevel = Literal["highest", "mean", "subpart", "part", "whole"]
"""How the scores of the levels of a Gaussian become one score per class: the highest, their mean, or one level's."""

MAX_CLASSES = 65_535
"""Class numbers have two bytes, and 0 stands for Gaussians without a class."""


@dataclass(frozen=True, kw_only=True)
class LabelSettings(ScoreSettings):
    """How every Gaussian gets one class, and how the Gaussians of a class form instances.

    Raises:
        GenLangSplatError: A setting is out of range, or all negatives are blank.
    """

    level: LabelLevel = "highest"
    """Score of a Gaussian and a text: the highest of the three mask levels, their mean, or that of a named level."""
    threshold: float = 0.5
    """Gaussians whose best text is not above this relevancy are unlabeled; at 0.5 a text equals its best negative."""
    min_opacity: float = 0.05
    """Gaussians with a lower opacity do not form instances; they join the instance of their class beside them."""
    radius: float | None = None
    """Gaussians of a class within this distance are one instance; None derives it from the spacing of each class."""
    core_neighbors: int = 4
    """Only Gaussians with this many others of their class within the radius connect, so thin bridges do not."""
    smallest_instance: float = 0.1
    """Groups with fewer Gaussians than this share of the largest of their class are no instance (number 0)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level not in get_args(LabelLevel):
            raise GenLangSplatError(f'Found the level "{self.level}"; choose one of {", ".join(get_args(LabelLevel))}.')
        for name in ("threshold", "min_opacity", "smallest_instance"):
            if not 0 <= getattr(self, name) <= 1:
                raise GenLangSplatError(f"Found a {name} of {getattr(self, name)}; choose a number from 0 to 1.")
        if self.radius is not None and not 0 < self.radius < float("inf"):
            raise GenLangSplatError(f"Found a radius of {self.radius}; choose a positive length, or omit the radius.")
        if not 0 <= self.core_neighbors <= MAX_CORE_NEIGHBORS:
            raise GenLangSplatError(
                f"Found {self.core_neighbors} core neighbors; choose a number from 0 to {MAX_CORE_NEIGHBORS}."
            )


MAX_CORE_NEIGHBORS = 16
"""Nearest Gaussians that are looked at when instances are formed."""
