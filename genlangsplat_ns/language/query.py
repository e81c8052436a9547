"""Text queries: what is asked, how it is scored over a rendered view, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.decoding import Decode, Decoded, decode_to_compare, rows_at_a_time
from genlangsplat_ns.language.relevancy import DEFAULT_NEGATIVES, DEFAULT_TEMPERATURE, relevancy_of_cosines
from genlangsplat_ns.levels import LEVELS

LEVEL_RULES: tuple[str, ...] = ("mean", "auto", *LEVELS)
"""How the levels' maps become one: their mean, the one with the highest peak, or a named one."""

QueryMode = Literal["gaussian", "rendered"]
"""`rendered` decodes and scores pixels (the paper); `gaussian` scores every Gaussian once and splats the scores."""

LONGEST_TEXT = 1000
"""Characters of a text; encoders cut off what lies beyond a few hundred, and would answer something else."""

PROMPTS: tuple[str, ...] = ("{}", "a photo of {}", "a close-up of {}", "{} in a room", "there is {} in the picture")
"""The sentences a text is put into where prompts are asked for; their unit embeddings are averaged."""

LEAST_RELEVANCY = 1e-30
"""What anything that shows something scores at least."""

EMPTY_NORM = 1e-2
"""A rendered latent shorter than this shows next to nothing (its length is at most the opacity) and scores 0."""


@runtime_checkable
class TextEncoder(Protocol):
    """The half of an image-text encoder that a query needs."""

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """Returns one unit vector per text."""
        ...


@dataclass(frozen=True)
class TextQuery:
    """What is asked of a scene and how the answer is read.

    Attributes:
        texts: The texts to look for, each answered on its own.
        negatives: The canonical texts they compete with. Blank entries are left out.
        level: `mean` of the levels, `auto` (the level with the highest raw peak), or one of `LEVELS`.
        threshold: Pixels with more relevancy than this are selected, in [0, 1]. The embedded encoder's centered
            embeddings lie further apart than CLIP's and push relevancy to 0 and 1, so its masks fit best high up.
        temperature: The factor on cosines in the relevancy.
        prompts: Whether texts and negatives are put into the sentences of `PROMPTS`.

    Raises:
        GenLangSplatError: Without a text, with a blank or very long one, with only blank negatives, with a text that
            is also a negative, with an unknown level, or with a threshold or temperature out of range.
    """

    texts: tuple[str, ...]
    negatives: tuple[str, ...] = DEFAULT_NEGATIVES
    level: str = "mean"
    threshold: float = 0.8
    temperature: float = DEFAULT_TEMPERATURE
    prompts: bool = False

    def __post_init__(self) -> None:
        if not self.texts:
            raise GenLangSplatError('Found no text to look for; give at least one, for example "a cup of coffee".')
        if any(not text.strip() for text in self.texts):
            raise GenLangSplatError(f"Found a blank text among {list(self.texts)}; every text needs at least one word.")
        kept = tuple(negative.strip() for negative in self.negatives if negative.strip())
        if not kept:
            raise GenLangSplatError(
                f"Found no negative text with a word in it; relevancy compares with at least one. "
                f"Leave negatives at their default {list(DEFAULT_NEGATIVES)} or name some."
            )
        for text in (*self.texts, *kept):
            if len(text) > LONGEST_TEXT:
                raise GenLangSplatError(
                    f'Found a text of {len(text):,} characters ("{text[:30]}..."); give at most {LONGEST_TEXT:,}. '
                    "A few words are best; separate several texts with semicolons."
                )
        negated = {negative.casefold() for negative in kept}
        for text in self.texts:
            if text.strip().casefold() in negated:
                raise GenLangSplatError(
                    f'Found "{text.strip()}" both as a text and as a negative; it can never beat itself. '
                    f"Take it out of the negatives, which are {list(kept)}."
                )
        if self.level not in LEVEL_RULES:
            raise GenLangSplatError(f'Found the level "{self.level}"; choose one of {", ".join(LEVEL_RULES)}.')
        if not 0.0 <= self.threshold <= 1.0:
            raise GenLangSplatError(
                f"Found a threshold of {self.threshold}; relevancy lies in 0 to 1, choose from there."
            )
        if not self.temperature > 0:
            raise GenLangSplatError(f"Found a temperature of {self.temperature}; it must be positive (LERF's is 10).")
        object.__setattr__(self, "texts", tuple(text.strip() for text in self.texts))
        object.__setattr__(self, "negatives", kept)


@dataclass(frozen=True, eq=False)
class EmbeddedQuery:
    """A query with its texts in the encoder's space.

    Attributes:
        query: What was asked.
        positives: Unit vectors of the texts, in their order.
        negatives: Unit vectors of the negatives.
    """

    query: TextQuery
    positives: Float[Tensor, "num_texts embedding_dim"]
    negatives: Float[Tensor, "num_negatives embedding_dim"]

    def score(self, embeddings: Float[Tensor, "*batch embedding_dim"]) -> Float[Tensor, "*batch num_texts"]:
        """Relevancy of unit embeddings (of pixels or Gaussians) to each text."""
        return self._relevancy(embeddings @ self._vectors.to(embeddings).T)

    def score_decoded(self, decoded: Decoded) -> Float[Tensor, "count num_texts"]:
        """Relevancy of decoded latents to each text."""
        return self._relevancy(decoded.cosines(self._vectors))

    @property
    def _vectors(self) -> Tensor:
        return torch.cat([self.positives, self.negatives])

    def _relevancy(self, cosines: Tensor) -> Tensor:
        positives, negatives = cosines.split([len(self.positives), len(self.negatives)], dim=-1)
        # Exactly 0 says that nothing is there, and must not come from a sharp sigmoid.
        return relevancy_of_cosines(positives, negatives, self.query.temperature).clamp_min(LEAST_RELEVANCY)


@dataclass(frozen=True, eq=False)
class LevelChoice:
    """One relevancy made of the levels': the rule or level it came from, and its value at each pixel or Gaussian."""

    name: str
    map: Float[Tensor, "place ..."]


@dataclass(frozen=True, eq=False)
class ViewAnswer:
    """The answer to one text in one view.

    Attributes:
        text: The text asked for.
        level: The level the answer was read from, or `mean`.
        map: Relevancy of every pixel.
        score: The highest relevancy.
        peak: Pixel (x, y) of the highest relevancy, the first in reading order when several tie.
        mask: Pixels above the query's threshold.
    """

    text: str
    level: str
    map: Float[Tensor, "height width"]
    score: float
    peak: tuple[int, int]
    mask: Bool[Tensor, "height width"]


_EMBEDDED: WeakKeyDictionary[TextEncoder, dict[str, Tensor]] = WeakKeyDictionary()
"""The unit vectors of the sentences that each encoder has been asked for, as long as the encoder lives."""


def embed_query(query: TextQuery, encoder: TextEncoder) -> EmbeddedQuery:
    """Encodes the texts and negatives of a query, in one call; what the encoder embedded before is remembered."""
    prompts = PROMPTS if query.prompts else ("{}",)
    texts = [*query.texts, *query.negatives]
    sentences = [prompt.replace("{}", text) for text in texts for prompt in prompts]
    known = _EMBEDDED.setdefault(encoder, {})
    new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
    if new:
        known.update(zip(new, encoder.encode_texts(new), strict=True))
    rows = torch.stack([known[sentence] for sentence in sentences]).unflatten(0, (len(texts), len(prompts)))
    embeddings = F.normalize(rows.mean(dim=1), dim=-1) if query.prompts else rows[:, 0]
    count = len(query.texts)
    return EmbeddedQuery(query=query, positives=embeddings[:count], negatives=embeddings[count:])


def split_texts(line: str) -> tuple[str, ...]:
    """Splits a line at semicolons into texts; blank ones are left out."""
    return tuple(text.strip() for text in line.split(";") if text.strip())


@torch.no_grad()
def score_latents(
    latents: Float[Tensor, "count latent_dim"],
    decode: Decode,
    query: EmbeddedQuery,
    chunk_size: int | None = None,
) -> Float[Tensor, "count num_texts"]:
    """Relevancy of latents to each text: normalize, decode, score, a chunk at a time and once for all texts.

    Args:
        latents: Latents of pixels or Gaussians, of any length. Those shorter than `EMPTY_NORM` score 0 and are not
            decoded.
        decode: Maps unit latents to embeddings.
        query: The embedded query.
        chunk_size: Latents decoded at a time; None takes as many as suit the decoder and the latents' device.
    """
    chunk_size = chunk_size or rows_at_a_time(decode, latents.device)
    scores = latents.new_zeros(latents.shape[0], len(query.query.texts))
    filled = (latents.norm(dim=-1) > EMPTY_NORM).nonzero().squeeze(-1)
    for rows in filled.split(chunk_size):
        scores[rows] = query.score_decoded(decode_to_compare(decode, latents[rows])).to(scores)
    return scores


@torch.no_grad()
def relevancy_of_zero(
    latents: Float[Tensor, "*batch latent_dim"], decode: Decode, query: EmbeddedQuery
) -> Float[Tensor, " num_texts"]:
    """Relevancy to each text of what a latent of zero is decoded to; one half where that has no direction.

    Args:
        latents: Any latents of the run, for their width and where they lie.
        decode: Maps latents (count, latent_dim) to embeddings (count, embedding_dim).
        query: The embedded query.
    """
    embeddings = decode(latents.new_zeros(1, latents.shape[-1]))
    return query.score(F.normalize(embeddings, dim=-1))[0]


def relevancy_maps(
    latents: Float[Tensor, "height width levels latent_dim"],
    decode: Decode,
    query: EmbeddedQuery,
) -> Float[Tensor, "num_texts levels height width"]:
    """Relevancy of every pixel and level of a rendered view to each text (the paper's query: render, decode, score).

    Args:
        latents: Rendered latents, not normalized; pixels that show nothing have length near 0 and score 0.
        decode: Maps unit latents (count, latent_dim) to embeddings (count, embedding_dim).
        query: The embedded query.
    """
    height, width, levels, _ = latents.shape
    scores = score_latents(latents.reshape(height * width * levels, -1), decode, query)
    return scores.reshape(height, width, levels, -1).permute(3, 2, 0, 1)


def choose_level(maps: Float[Tensor, "levels ..."], level: str) -> LevelChoice:
    """Makes one map of the levels' maps.

    Args:
        maps: Relevancy of pixels or Gaussians, one map per level; exactly 0 means that the level shows nothing there.
        level: `mean` averages, at each place, the levels that show something; `auto` takes the level with the highest
            raw peak, the first on ties (LangSplat's rule); a name of `LEVELS` takes that level.

    Raises:
        GenLangSplatError: If the level is unknown or the maps do not have it.
    """
    if level == "mean":
        return LevelChoice(level, maps.sum(dim=0) / (maps > 0).sum(dim=0).clamp(min=1))
    if level == "auto":
        index = int(maps.flatten(start_dim=1).amax(dim=1).argmax())
        return LevelChoice(LEVELS[index], maps[index])
    if level not in LEVELS[: maps.shape[0]]:
        raise GenLangSplatError(
            f'Found the level "{level}" for maps of {maps.shape[0]} levels; choose mean, auto or one of '
            f"{', '.join(LEVELS[: maps.shape[0]])}."
        )
    return LevelChoice(level, maps[LEVELS.index(level)])


def find_peak(relevancy_map: Float[Tensor, "height width"]) -> tuple[int, int]:
    """Pixel (x, y) of the highest value, the first in reading order on ties."""
    row, column = divmod(int(relevancy_map.argmax()), relevancy_map.shape[1])
    return column, row


def answer_texts(maps: Float[Tensor, "num_texts levels height width"], query: TextQuery) -> list[ViewAnswer]:
    """Reads one answer per text from the relevancy maps of a view, with the query's own level rule and threshold.

    Args:
        maps: Relevancy of a view, from `relevancy_maps` or from splatted relevancies of Gaussians.
        query: The query the maps belong to.
    """
    answers = []
    for text, text_maps in zip(query.texts, maps, strict=True):
        choice = choose_level(text_maps, query.level)
        column, row = find_peak(choice.map)
        answers.append(
            ViewAnswer(
                text=text,
                level=choice.name,
                map=choice.map,
                score=float(choice.map[row, column]),
                peak=(column, row),
                mask=choice.map > query.threshold,
            )
        )
    return answers
