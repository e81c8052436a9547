"""The query mode `gaussian`: every Gaussian is scored once per text, and the score is splatted like a color.

Decoding is the expensive part and does not depend on the text. So a scene is decoded once, and the result is kept:
weights of the memory's values, or embeddings in half precision. A new text then costs a few products per Gaussian.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.decoding import Decode, Decoded, decode_to_compare, rows_at_a_time
from genlangsplat_ns.language.latents import NO_LATENT, has_latent
from genlangsplat_ns.language.query import EmbeddedQuery


class DecodedGaussians:
    """The decoded latents of a scene's Gaussians.

    The viewer may interrupt a frame between two lines of Python. Chunks that are decoded by then are kept, and the next
    frame continues from there.

    Args:
        latents: Latents of the Gaussians, of any length; those without a meaning score 0 with every text.
        decode: Maps latents to embeddings.
    """

    def __init__(self, latents: Float[Tensor, "num_gaussians levels latent_dim"], decode: Decode) -> None:
        self._shape = latents.shape[:2]
        self._latents, self._decode = latents.flatten(0, 1), decode
        self._parts: list[Decoded] = []
        filled = has_latent(self._latents).nonzero().squeeze(-1)
        self._rows = filled.split(rows_at_a_time(decode, latents.device))

    @torch.no_grad()
    def prepare(self) -> None:
        """Decodes the chunks that are not decoded yet."""
        while len(self._parts) < len(self._rows):
            decoded = decode_to_compare(self._decode, self._latents[self._rows[len(self._parts)]])
            self._parts.append(decoded.compact())

    @torch.no_grad()
    def score(self, query: EmbeddedQuery) -> Float[Tensor, "num_gaussians levels num_texts"]:
        """Relevancy of every Gaussian and level to each text; 0 where no region was ever seen."""
        self.prepare()
        scores = self._latents.new_zeros(len(self._latents), len(query.query.texts))
        # A scene without a latent has no rows but one empty chunk.
        for rows, decoded in zip(self._rows, self._parts, strict=True):
            scores[rows] = query.score_decoded(decoded)
        return scores.unflatten(0, self._shape)


class SeenScores:
    """Scores of Gaussians, and what to splat beside them to divide them by the opacity of the Gaussians that were seen.

    A Gaussian with a score of exactly 0 was never seen in a region. It must not lower the scores of others in its
    pixel. Scores that every Gaussian has are divided by the opacity, which is rendered anyway.

    Args:
        scores: The scores.

    Attributes:
        channels: What to splat: the scores, followed by columns that are 1 where a Gaussian was seen. Scores that were
            seen on the same Gaussians share one such column, and scores seen on all Gaussians need none.
    """

    channels: Float[Tensor, "num_gaussians num_channels"]

    def __init__(self, scores: Float[Tensor, "num_gaussians num_scores"]) -> None:
        columns: list[Tensor] = []
        self._places: list[int] = []
        for seen in (scores > 0).T.contiguous():
            if bool(seen.all()):
                self._places.append(-1)
                continue
            known = [place for place, other in enumerate(columns) if torch.equal(seen, other)]
            if not known:
                columns.append(seen)
            self._places.append(known[0] if known else len(columns) - 1)
        self.channels = torch.cat([scores, torch.stack(columns, dim=-1).to(scores)], dim=-1) if columns else scores

    def divide(
        self, splatted: Float[Tensor, "height width num_channels"], alphas: Float[Tensor, "height width 1"]
    ) -> Float[Tensor, "height width num_scores"]:
        """Turns splatted channels into relevancy; exactly 0 where next to nothing of what was seen is visible.

        Args:
            splatted: `channels`, composited over black.
            alphas: The opacity of all Gaussians.
        """
        count = len(self._places)
        opacities = torch.cat([splatted[..., count:], alphas], dim=-1)
        # Division by infinity gives the zeros without a second pass.
        divisors = opacities.masked_fill_(opacities <= NO_LATENT, float("inf"))
        if divisors.shape[-1] > 1:
            divisors = divisors[..., self._places]
        return (splatted[..., :count] / divisors).clamp_(max=1.0)
