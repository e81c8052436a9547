"""What can be set about queries and selections. It imports no torch, because every command reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genlangsplat_ns.errors import GenLangSplatError

QueryMode = Literal["gaussian", "rendered"]
"""`rendered` decodes and scores pixels (the paper); `gaussian` scores every Gaussian once and splats the scores."""

DecoderName = Literal["memory", "autoencoder"]
"""`memory` decodes by the scene's memory, `autoencoder` by the pre-trained decoder alone (the paper)."""

LevelRule = Literal["mean", "auto", "subpart", "part", "whole"]
"""How the scores of the levels become one score."""

DEFAULT_NEGATIVES: tuple[str, ...] = ("object", "things", "stuff", "texture")
"""The canonical texts of LERF and LangSplat that every query competes with."""

DEFAULT_TEMPERATURE = 10.0
"""The factor LERF multiplies cosines with before the softmax."""


def split_texts(line: str) -> tuple[str, ...]:
    """Splits a line into texts at semicolons and drops blank ones."""
    return tuple(text.strip() for text in line.split(";") if text.strip())


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """How texts are scored.

    Raises:
        GenLangSplatError: The temperature is not positive, or no negative text has a word in it.
    """

    negatives: tuple[str, ...] = DEFAULT_NEGATIVES
    """Texts that the queried texts compete with; semicolons inside one separate several."""
    temperature: float = DEFAULT_TEMPERATURE
    """Sharpness of the relevancy; LERF uses 10."""
    prompts: bool = False
    """Embed every text inside sentences such as "a photo of ..." and average them, which helps CLIP."""

    def __post_init__(self) -> None:
        negatives = split_texts(";".join(self.negatives))
        if not negatives:
            raise GenLangSplatError(
                "Found no negative text with a word in it; relevancy compares with at least one. Leave the negatives "
                f"at their default {list(DEFAULT_NEGATIVES)} or name some."
            )
        if not self.temperature > 0:
            raise GenLangSplatError(f"Found a temperature of {self.temperature}; it must be positive (LERF uses 10).")
        object.__setattr__(self, "negatives", negatives)


@dataclass(frozen=True, kw_only=True)
class QuerySettings(ScoreSettings):
    """How texts are scored, and how the answer is read from the scores.

    Raises:
        GenLangSplatError: A setting is out of range, or no negative text has a word in it.
    """

    level: LevelRule = "mean"
    """Mask level to answer at: the mean of all levels, the level with the highest peak (auto), or a named level."""
    threshold: float = 0.8
    """Pixels and Gaussians with a higher relevancy are selected. The embedded encoder's scores lie near 0 and 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level not in LEVEL_RULES:
            raise GenLangSplatError(f'Found the level "{self.level}"; choose one of {", ".join(LEVEL_RULES)}.')
        if not 0.0 <= self.threshold <= 1.0:
            raise GenLangSplatError(f"Found a threshold of {self.threshold}; choose a relevancy from 0 to 1.")


LEVEL_RULES: tuple[LevelRule, ...] = ("mean", "auto", "subpart", "part", "whole")
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
    """Remove groups of selected Gaussians that are small and apart from the largest group."""
    radius: float | None = None
    """Clean-up: Gaussians within this distance form a group; None derives it from the spacing of the Gaussians."""
    smallest_group: float = 0.1
    """Clean-up: remove groups with fewer Gaussians than this share of the largest group; 1 keeps only the largest."""

    def __post_init__(self) -> None:
        for name in ("min_opacity", "smallest_group"):
            if not 0 <= getattr(self, name) <= 1:
                raise GenLangSplatError(f"Found a {name} of {getattr(self, name)}; choose a share from 0 to 1.")
        if self.radius is not None and not 0 < self.radius < float("inf"):
            raise GenLangSplatError(f"Found a radius of {self.radius}; choose a positive length, or leave it out.")
