"""The language field of a scene: answers queries about its Gaussians.

A field is immutable. It computes results on first use and caches them. If the latents or the decoder of a scene change,
the scene needs a new field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.answers import (
    MIN_PEAK_OPACITY,
    LevelChoice,
    ViewAnswer,
    answer_texts,
    join_levels,
    read_answer,
)
from genlangsplat_ns.language.decoding import Decode, has_latent
from genlangsplat_ns.language.description import SceneGroup, describe_gaussians
from genlangsplat_ns.language.gaussian_scores import DecodedGaussians, SeenScores
from genlangsplat_ns.language.memory import MemoryDecoder, SceneMemory
from genlangsplat_ns.language.pixel_scores import relevancy_maps
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.language.selection import GaussianSelection, select_gaussians
from genlangsplat_ns.language.settings import DecoderName, SelectionSettings
from genlangsplat_ns.language.visualize import LatentPca
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.lazy import lazy_property

MAX_SCORES = 100_000_000
"""Maximum number of scores (Gaussians x levels x texts) in memory; queries with more are scored in batches."""

MAX_PEAKS = 20
"""`peaks` returns at most this many of the largest groups."""

AVERAGED_LATENTS = 4096
"""Approximate number of latents in the average embedding of a scene."""


@dataclass(frozen=True, eq=False)
class GaussianAnswer:
    """The Gaussians that answer one text, independent of the view. Tensors are on the CPU."""

    text: str
    """The queried text."""
    level: str
    """The level or rule the scores came from."""
    relevancy: Float[Tensor, " num_gaussians"]
    """Relevancy of every Gaussian; 0 where no region was ever seen."""
    peak: tuple[float, ...]
    """Center of the Gaussian with the highest relevancy among those with at least the minimum opacity."""
    score: float
    """Relevancy at the peak."""
    selection: GaussianSelection
    """The Gaussians above the query's threshold."""


@dataclass(frozen=True)
class Peak:
    """A place in the scene that answers a query."""

    center: tuple[float, ...]
    """Mean center of the Gaussians in the group."""
    size: float
    """Largest extent of the group."""
    score: float
    """The highest relevancy in the group."""


class LanguageField:
    """Answers queries from the latents of a scene's Gaussians.

    Args:
        means: Centers of the Gaussians.
        opacities: Opacities in 0..1.
        latents: One latent per Gaussian and level; zero where no region was ever seen.
        prior: The decoder of the pre-trained autoencoder, which maps latents to unit embeddings.
        memory: The scene memory; None if there is none.
        decoder: The decoder of the latents; without a memory, always the autoencoder.
        pca: Principal directions for the colors of the latents; None fits them on first use.
    """

    def __init__(
        self,
        means: Float[Tensor, "num_gaussians 3"],
        opacities: Float[Tensor, " num_gaussians"],
        latents: Float[Tensor, "num_gaussians levels latent_dim"],
        prior: Decode,
        memory: SceneMemory | None = None,
        decoder: DecoderName = "memory",
        pca: LatentPca | None = None,
    ) -> None:
        self.means, self.opacities, self.latents = means.detach(), opacities.detach(), latents.detach()
        self.prior, self.memory = prior, memory
        self.decoder: DecoderName = "autoencoder" if memory is None else decoder
        self.pca = pca
        self._last_scores: tuple[EmbeddedQuery, float, Tensor, tuple[str, ...]] | None = None
        self._last_channels: tuple[Tensor, bool, SeenScores] | None = None

    def with_latents(self, latents: Float[Tensor, "num_gaussians levels latent_dim"]) -> LanguageField:
        """Returns the field of the same scene with other latents and the same mapping from latents to colors."""
        return LanguageField(
            self.means, self.opacities, latents.to(self.latents), self.prior, self.memory, self.decoder, self.pca
        )

    @lazy_property
    def decode(self) -> Decode:
        """Maps latents to unit embeddings."""
        if self.memory is None or self.decoder == "autoencoder":
            return self.prior
        return MemoryDecoder(self.memory, self.prior)

    # Scores

    @torch.no_grad()
    def level_scores(self, query: EmbeddedQuery) -> Float[Tensor, "num_gaussians levels num_texts"]:
        """Computes the relevancy of every Gaussian at every level to each text."""
        return self._decoded.score(query)

    @torch.no_grad()
    def cosines(
        self, vectors: Float[Tensor, "num_texts embedding_dim"]
    ) -> Float[Tensor, "num_texts levels num_gaussians"]:
        """Computes the cosines of every Gaussian and level with unit vectors; NaN where no region was ever seen."""
        return self._decoded.cosines(vectors)

    @torch.no_grad()
    def decode_all(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Decodes the latents of all Gaussians, which the first score would do, until `stopped` returns true."""
        self._decoded.decode(stopped)

    @torch.no_grad()
    def relevancy(
        self, query: EmbeddedQuery, peak_opacity: float = MIN_PEAK_OPACITY
    ) -> tuple[Float[Tensor, "num_gaussians num_texts"], tuple[str, ...]]:
        """Scores every Gaussian against every text of a query; the last result is cached.

        The rule `auto` ignores Gaussians with an opacity below `peak_opacity` when it compares levels. Returns the
        relevancy, 0 for Gaussians on which no region was seen; and for each text the level or rule it came from.
        """
        last = self._last_scores
        if last is None or not query.scores_like(last[0]) or last[1] != peak_opacity:
            count, levels = self.latents.shape[:2]
            joined = [
                join_levels(self.level_scores(part), self.opacities, query.query.level, peak_opacity)
                for part in query.batches(max(1, MAX_SCORES // max(1, count * levels)))
            ]
            scores = torch.cat([scores for scores, _ in joined], dim=1)
            last = query, peak_opacity, scores, tuple(name for _, names in joined for name in names)
            self._last_scores = last
        return last[2:]

    def seen_scores(self, query: EmbeddedQuery, highest: bool = False) -> SeenScores:
        """Prepares the relevancy of Gaussians for splatting; with `highest` only the highest over all texts."""
        scores = self.relevancy(query)[0]
        last = self._last_channels
        if last is None or last[0] is not scores or last[1] != highest:
            last = scores, highest, SeenScores(scores.amax(dim=1, keepdim=True) if highest else scores)
            self._last_channels = last
        return last[2]

    def answer_view(
        self, rendered: Float[Tensor, "height width levels latent_dim"], query: EmbeddedQuery
    ) -> list[ViewAnswer]:
        """Decodes and scores every pixel of a view (the query mode `rendered`, which is the paper's)."""
        return answer_texts(relevancy_maps(rendered, self.decode, query), query.query)

    def answer_splatted(
        self, splatted: Float[Tensor, "height width num_texts"], query: EmbeddedQuery
    ) -> list[ViewAnswer]:
        """Reads the answers from `seen_scores(query)`, splatted into a view and divided by the seen opacity.

        This is the query mode `gaussian`, in which the levels are joined before.
        """
        choices = map(LevelChoice, self.relevancy(query)[1], splatted.permute(2, 0, 1))
        threshold = query.query.threshold
        return [read_answer(text, choice, threshold) for text, choice in zip(query.query.texts, choices, strict=True)]

    # Gaussians

    def find(
        self,
        query: EmbeddedQuery,
        settings: SelectionSettings | None = None,
        peak_opacity: float = MIN_PEAK_OPACITY,
        among: Bool[Tensor, " num_gaussians"] | None = None,
    ) -> list[GaussianAnswer]:
        """Scores and selects Gaussians for each text of a query; `peak_opacity` is as in `relevancy`.

        Only Gaussians in the mask `among` may answer (None for all); the others have the relevancy 0.
        """
        settings = settings or SelectionSettings()
        relevancy, levels = self.relevancy(query, peak_opacity)
        if among is not None:
            relevancy = relevancy * among[:, None]
        means, opacities = self.means.cpu(), self.opacities.cpu()
        answers = []
        for text, level, scores in zip(query.query.texts, levels, relevancy.T.cpu(), strict=True):
            peak = int((scores * (opacities >= settings.min_opacity)).argmax())
            selection = select_gaussians(scores, means, opacities, query.query.threshold, settings)
            center = tuple(means[peak].tolist())
            answers.append(GaussianAnswer(text, level, scores, center, float(scores[peak]), selection))
        return answers

    def select(
        self,
        query: EmbeddedQuery,
        settings: SelectionSettings | None = None,
        grow: float = 0.0,
        without: EmbeddedQuery | None = None,
    ) -> GaussianSelection:
        """Selects the Gaussians that answer any text of a query, and those within `grow` of them.

        Gaussians that answer any text of `without` are excluded.

        Raises:
            GenLangSplatError: No Gaussian is selected.
        """
        selection = _union(self.find(query, settings)).grown(grow)
        if without is not None:
            selection = selection - _union(self.find(without, settings))
        texts = ", ".join(f'"{text}"' for text in query.query.texts)
        return selection.require_some(f"{texts} above a relevancy of {query.query.threshold}")

    def peaks(self, query: EmbeddedQuery, settings: SelectionSettings | None = None) -> list[Peak]:
        """Finds the groups of Gaussians that answer any text of a query, by descending relevancy.

        Raises:
            GenLangSplatError: No Gaussian is selected.
        """
        selection, scores = self.select(query, settings), self.relevancy(query)[0].amax(dim=1).cpu()
        found = []
        for group in selection.cleaned().groups()[:MAX_PEAKS]:
            points = group.means[group.keep]
            center, extent = points.mean(dim=0).tolist(), points.amax(dim=0) - points.amin(dim=0)
            found.append(Peak(tuple(center), float(extent.max()), float(scores[group.keep].max())))
        return sorted(found, key=lambda peak: -peak.score)

    def describe(self, vocabulary: EmbeddedQuery, level: str, num_groups: int, num_texts: int) -> list[SceneGroup]:
        """Groups the Gaussians by meaning and finds the vocabulary texts that describe each group best.

        Raises:
            GenLangSplatError: The level is unknown, a number is not positive, or no Gaussian has a latent.
        """
        if level not in LEVELS:
            raise GenLangSplatError(f'Found the level "{level}"; choose one of {", ".join(LEVELS)}.')
        latents = self.latents[:, LEVELS.index(level)]
        return describe_gaussians(latents, self.opacities, self.decode, vocabulary, num_groups, num_texts)

    # Embeddings

    @torch.no_grad()
    def embeddings_at(
        self, latents: Float[Tensor, "levels latent_dim"], level: str
    ) -> Float[Tensor, "num_levels embedding_dim"]:
        """Decodes the latents rendered at one pixel, at a level of `LEVELS`, or by any other rule at all levels.

        Raises:
            GenLangSplatError: No latent is visible at the pixel.
        """
        latents = latents if level not in LEVELS else latents[LEVELS.index(level)][None]
        latents = latents[has_latent(latents)]
        if len(latents) == 0:
            raise GenLangSplatError("No region was ever seen there. Click on something else.")
        return F.normalize(self.decode(F.normalize(latents, dim=-1)), dim=-1)

    @torch.no_grad()
    def query_like(self, embeddings: Float[Tensor, "num_levels embedding_dim"], query: TextQuery) -> EmbeddedQuery:
        """Makes a query with the settings of another from the embeddings of the object to find.

        The negative is the average embedding of the scene. Texts cannot be the negatives, because image embeddings are
        much more similar to each other than to any text.
        """
        positive = F.normalize(embeddings.mean(dim=0), dim=-1)
        latents = self.latents.flatten(0, 1)
        latents = latents[has_latent(latents)]
        latents = F.normalize(latents[:: 1 + len(latents) // AVERAGED_LATENTS], dim=-1)
        average = F.normalize(F.normalize(self.decode(latents), dim=-1).mean(dim=0), dim=-1)
        return EmbeddedQuery(query, positive[None], average[None])

    @lazy_property
    def colors(self) -> Float[Tensor, "num_gaussians 3"]:
        """One color per Gaussian from the principal directions of the latents; black if all latents are zero."""
        latents = self.latents[:, len(LEVELS) // 2]
        if not bool(has_latent(latents).any()):
            return latents.new_zeros(len(latents), 3)
        if self.pca is None:
            self.pca = LatentPca.fit(latents)
        return self.pca.apply(latents)

    @lazy_property
    def _decoded(self) -> DecodedGaussians:
        return DecodedGaussians(self.latents, self.decode)


def _union(answers: list[GaussianAnswer]) -> GaussianSelection:
    return reduce(or_, (answer.selection for answer in answers))
