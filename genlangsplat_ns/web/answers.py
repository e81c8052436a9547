"""The scores of texts for the page: cosines of every Gaussian and level, so that the page needs them only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import EmbeddedQuery, check_texts, embed_texts
from genlangsplat_ns.web.page_scene import PageScene
from genlangsplat_ns.web.protocol import TextScores, quantize

CACHE_BYTES = 256_000_000
"""Scores of the texts asked last stay in memory up to this size: 600 texts of 135,000 Gaussians."""

MAX_NUMBERS = 4_000_000
"""Number of cosines that are computed at a time, about 16 MB and at most half a second."""


class TextAnswers:
    """Scores texts for one page scene, and keeps the scores of the texts asked last. One thread at a time may ask.

    Args:
        page: The scene.
        cache_bytes: Maximum size of the kept scores.
        stopped: Whether to give up, which is asked between some texts and the next.
    """

    def __init__(
        self, page: PageScene, cache_bytes: int = CACHE_BYTES, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._page, self._cache_bytes, self._stopped = page, cache_bytes, stopped
        self._known: OrderedDict[tuple[str, bool], TextScores] = OrderedDict()
        self._size = 0

    def cosines(self, texts: Sequence[str], prompts: bool = False) -> list[TextScores]:
        """Returns the cosines of the Gaussians at every level with each text, in bytes.

        Raises:
            GenLangSplatError: There is no text, a text is blank or too long, the encoder cannot embed it, or the server
                was stopped.
        """
        check_texts(texts)
        texts = [text.strip() for text in texts]
        found = {text: self._known[text, prompts] for text in texts if (text, prompts) in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            vectors = embed_texts(new, self._page.scene.encoder, prompts)
            for text, scores in zip(new, self._score(new, vectors), strict=True):
                found[text] = scores
                self._keep((text, prompts), scores)
        for text in found:
            if (text, prompts) in self._known:
                self._known.move_to_end((text, prompts))
        return [found[text] for text in texts]

    def _score(self, texts: Sequence[str], vectors: Float[Tensor, "num_texts embedding_dim"]) -> list[TextScores]:
        field, rows = self._page.scene.field, self._page.rows
        count, levels = field.latents.shape[:2]
        size = max(1, MAX_NUMBERS // max(1, count * levels))
        scores = []
        for first in range(0, len(texts), size):
            if self._stopped():
                raise GenLangSplatError("The server was stopped before it answered. Start gen-langsplat view again.")
            cosines = field.cosines(vectors[first : first + size]).cpu()
            planes = cosines if self._page.in_model_order else cosines[:, :, rows]
            scores += [
                quantize(text, each.numpy()) for text, each in zip(texts[first : first + size], planes, strict=True)
            ]
        return scores

    def _keep(self, key: tuple[str, bool], scores: TextScores) -> None:
        self._known[key] = scores
        self._size += scores.nbytes
        while self._size > self._cache_bytes:
            _, oldest = self._known.popitem(last=False)
            self._size -= oldest.nbytes


@torch.no_grad()
def relevancy_scores(page: PageScene, query: EmbeddedQuery) -> list[TextScores]:
    """Returns the relevancy of the Gaussians to each text of a query, with its levels joined, in bytes."""
    relevancy = page.scene.field.relevancy(query)[0].cpu()[page.rows]
    seen = relevancy.masked_fill(relevancy == 0, torch.nan)
    return [
        quantize(text, column[None].numpy(), limits=(0.0, 1.0))
        for text, column in zip(query.query.texts, seen.T, strict=True)
    ]
