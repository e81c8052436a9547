"""Text queries and their embeddings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.decoding import Decoded
from genlangsplat_ns.language.relevancy import relevancy_of_cosines
from genlangsplat_ns.language.settings import QuerySettings, ScoreSettings
from genlangsplat_ns.utils.lazy import lazy_property

MAX_TEXT_LENGTH = 1000
"""Maximum number of characters in a text; encoders truncate texts after a few hundred."""

PROMPTS: tuple[str, ...] = ("{}", "a photo of {}", "a close-up of {}", "{} in a room", "there is {} in the picture")
"""With `prompts`, each text is embedded in all of these sentences and the unit embeddings are averaged."""

MIN_RELEVANCY = 1e-30
"""Lower bound of every score, so that a score of exactly 0 means that there is no latent."""


@runtime_checkable
class TextEncoder(Protocol):
    """The text half of an image-text encoder."""

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """Returns one unit vector per text."""
        ...


def check_texts(texts: Sequence[str], negatives: Sequence[str] = ()) -> None:
    """Checks texts before they are embedded.

    Raises:
        GenLangSplatError: There is no text, a text is blank, or a text or negative is too long or no Unicode.
    """
    if not texts:
        raise GenLangSplatError('Found no text to query; give at least one, for example "a cup of coffee".')
    for text in (*texts, *negatives):
        if len(text) > MAX_TEXT_LENGTH:
            raise GenLangSplatError(
                f'Found a text of {len(text):,} characters ("{text[:30]}..."); give at most {MAX_TEXT_LENGTH:,}. '
                "A few words are best; separate several texts with semicolons."
            )
        if not text.isascii() and any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
            raise GenLangSplatError(
                f"Found a text with a broken letter ({text[:30]!a}), which is no Unicode. Write the text again."
            )
    if any(not text.strip() for text in texts):
        raise GenLangSplatError(
            f"Found a blank text among {list(texts)}; every text needs at least one word. Remove it."
        )


@dataclass(frozen=True)
class TextQuery(QuerySettings):
    """The texts to find, each answered separately, and how they are scored.

    Raises:
        GenLangSplatError: There is no text, a text is blank, too long or also a negative, or a setting is out of range.
    """

    texts: tuple[str, ...]
    """The texts to find."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_texts(self.texts, self.negatives)
        negatives = {negative.casefold() for negative in self.negatives}
        for text in self.texts:
            if text.strip().casefold() in negatives:
                raise GenLangSplatError(
                    f'Found "{text.strip()}" both as a text and as a negative; it cannot score above itself. '
                    f"Remove it from the negatives, which are {list(self.negatives)}."
                )
        object.__setattr__(self, "texts", tuple(text.strip() for text in self.texts))

    @classmethod
    def of(cls, texts: Sequence[str], settings: ScoreSettings) -> TextQuery:
        """Makes a query from texts and settings."""
        return cls(tuple(texts), **{item.name: getattr(settings, item.name) for item in fields(settings)})


@dataclass(frozen=True, eq=False)
class EmbeddedQuery:
    """A query with the embeddings of its texts.

    Attributes:
        query: The texts and settings.
        positives: Unit embeddings of the texts, in the same order.
        negatives: Unit embeddings of the negatives.
    """

    query: TextQuery
    positives: Float[Tensor, "num_texts embedding_dim"]
    negatives: Float[Tensor, "num_negatives embedding_dim"]

    def score(self, embeddings: Float[Tensor, "*batch embedding_dim"]) -> Float[Tensor, "*batch num_texts"]:
        """Computes the relevancy of unit embeddings to each text."""
        return self._relevancy(embeddings @ self._vectors.to(embeddings).T)

    def score_decoded(self, decoded: Decoded) -> Float[Tensor, "count num_texts"]:
        """Computes the relevancy of decoded latents to each text."""
        return self._relevancy(decoded.cosines(self._vectors))

    def subset(self, indices: Sequence[int]) -> EmbeddedQuery:
        """Returns the query with only some of its texts."""
        texts = tuple(self.query.texts[index] for index in indices)
        return EmbeddedQuery(replace(self.query, texts=texts), self.positives[list(indices)], self.negatives)

    def scores_like(self, other: EmbeddedQuery) -> bool:
        """Returns whether another query gives the same relevancy: only the thresholds may differ."""
        same_vectors = self.positives is other.positives and self.negatives is other.negatives
        return same_vectors and self.query == replace(other.query, threshold=self.query.threshold)

    def with_threshold(self, threshold: float) -> EmbeddedQuery:
        """Returns the query with another selection threshold."""
        if threshold == self.query.threshold:
            return self
        return replace(self, query=replace(self.query, threshold=threshold))

    def batches(self, size: int) -> list[EmbeddedQuery]:
        """Splits the query into queries of at most `size` texts."""
        count = len(self.query.texts)
        if count <= size:
            return [self]
        return [self.subset(range(count)[first : first + size]) for first in range(0, count, size)]

    @lazy_property
    def _vectors(self) -> Tensor:
        return torch.cat([self.positives, self.negatives])

    def _relevancy(self, cosines: Tensor) -> Tensor:
        positives, negatives = cosines.split([len(self.positives), len(self.negatives)], dim=-1)
        return relevancy_of_cosines(positives, negatives, self.query.temperature).clamp_min(MIN_RELEVANCY)


MAX_EMBEDDED = 10_000
"""Maximum number of sentences whose embeddings stay in memory, about 20 MB; the oldest are dropped."""

_EMBEDDED: WeakKeyDictionary[TextEncoder, OrderedDict[str, Tensor]] = WeakKeyDictionary()
"""Unit embeddings of the sentences that each encoder has embedded so far."""


def embed_texts(
    texts: Sequence[str], encoder: TextEncoder, prompts: bool = False
) -> Float[Tensor, "num_texts embedding_dim"]:
    """Returns one unit embedding per text, from one call to the encoder; embedded sentences are cached.

    With `prompts`, an embedding is the normalized mean over the sentences in `PROMPTS`.
    """
    forms = PROMPTS if prompts else ("{}",)
    sentences = [form.replace("{}", text) for text in texts for form in forms]
    known = _EMBEDDED.setdefault(encoder, OrderedDict())
    new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
    if new:
        # A row of a larger tensor would keep all of it in memory.
        rows = [row.clone() for row in encoder.encode_texts(new)]
        known.update(zip(new, rows, strict=True))
    vectors = torch.stack([known[sentence] for sentence in sentences]).unflatten(0, (len(texts), len(forms)))
    while len(known) > MAX_EMBEDDED:
        known.popitem(last=False)
    return F.normalize(vectors.mean(dim=1), dim=-1) if prompts else vectors[:, 0]


def embed_query(query: TextQuery, encoder: TextEncoder) -> EmbeddedQuery:
    """Embeds the texts and negatives of a query in one call to the encoder."""
    embeddings = embed_texts((*query.texts, *query.negatives), encoder, query.prompts)
    count = len(query.texts)
    return EmbeddedQuery(query=query, positives=embeddings[:count], negatives=embeddings[count:])
