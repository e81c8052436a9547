"""The mode `gaussian` of a query: every Gaussian is scored once per text, and the score is splatted like a color.

Decoding is the expensive part and knows nothing of the text. So it is done once for a scene, and what it gives is kept:
weights of the memory's values, or embeddings in half precision. A new text then costs a few products for each Gaussian.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.decoding import Decode, Decoded, decode_to_compare, rows_at_a_time
from genlangsplat_ns.language.query import EMPTY_NORM, EmbeddedQuery, choose_level

OPAQUE = 0.1
"""The rule `auto` takes the level by the peak of the Gaussians that are at least so opaque."""


class DecodedGaussians:
    """What the latents of a scene decode to, each by itself.

    The viewer breaks a frame off between two lines of Python. What is decoded by then stays, and the next frame goes
    on from there.

    Args:
        latents: Latents of the Gaussians, of any length; those shorter than `EMPTY_NORM` (no region ever saw the
            Gaussian) score 0 with every text.
        decode: Maps latents to embeddings.
    """

    def __init__(self, latents: Float[Tensor, "num_gaussians levels latent_dim"], decode: Decode) -> None:
        self._shape = latents.shape[:2]
        rows = latents.flatten(0, 1)
        filled = (rows.norm(dim=-1) > EMPTY_NORM).nonzero().squeeze(-1)
        self._latents, self._decode = rows, decode
        self._parts: list[Decoded] = []
        self._rows = filled.split(rows_at_a_time(decode, rows.device))

    @torch.no_grad()
    def prepare(self) -> None:
        """Decodes what is not decoded yet."""
        while len(self._parts) < len(self._rows):
            decoded = decode_to_compare(self._decode, self._latents[self._rows[len(self._parts)]])
            self._parts.append(decoded.compact())

    @torch.no_grad()
    def score(self, query: EmbeddedQuery) -> Float[Tensor, "num_gaussians levels num_texts"]:
        """Relevancy of every Gaussian and level to each text; 0 where no region was ever seen."""
        self.prepare()
        scores = self._latents.new_zeros(len(self._latents), len(query.query.texts))
        # A scene without a latent has no rows, but one empty piece.
        for rows, decoded in zip(self._rows, self._parts, strict=True):
            scores[rows] = query.score_decoded(decoded)
        return scores.unflatten(0, self._shape)


def join_levels(
    scores: Float[Tensor, "num_gaussians levels num_texts"], opacities: Float[Tensor, " num_gaussians"], level: str
) -> tuple[Float[Tensor, "num_gaussians num_texts"], tuple[str, ...]]:
    """Makes one score per Gaussian and text of the levels' scores; the level is the same in all views.

    Args:
        scores: Relevancy of each level, 0 where the level saw nothing.
        opacities: Opacities in 0..1; `auto` looks for the peak among Gaussians that are at least `OPAQUE`.
        level: As in `choose_level`.

    Returns:
        The scores, and for each text the level or rule they came from.
    """
    opaque = opacities >= OPAQUE
    joined, names = [], []
    for levels in scores.permute(2, 1, 0):
        name = choose_level(levels[:, opaque], level).name if bool(opaque.any()) else level
        joined.append(choose_level(levels, name).map)
        names.append(name)
    return torch.stack(joined, dim=-1), tuple(names)


class SeenScores:
    """Scores, with what must be splatted beside them to divide them by the opacity of the Gaussians that were seen.

    A score of exactly 0 is that of a Gaussian no region was ever seen on. It says nothing, so it must not pull down
    what others in its pixel say. Scores that all Gaussians have are divided by the opacity, which is drawn anyway.

    Args:
        scores: The scores.

    Attributes:
        channels: What to splat: the scores, and behind them 1 where a Gaussian was seen. All scores that were seen on
            the same Gaussians share one such column, and those seen on all need none.
    """

    channels: Float[Tensor, "num_gaussians num_channels"]

    def __init__(self, scores: Float[Tensor, "num_gaussians num_scores"]) -> None:
        sets: list[Tensor] = []
        self._places: list[int] = []
        for seen in (scores > 0).T.contiguous():
            if bool(seen.all()):
                self._places.append(-1)
                continue
            known = [place for place, other in enumerate(sets) if torch.equal(seen, other)]
            if not known:
                sets.append(seen)
            self._places.append(known[0] if known else len(sets) - 1)
        self.channels = torch.cat([scores, torch.stack(sets, dim=-1).to(scores)], dim=-1) if sets else scores

    def divide(
        self, splatted: Float[Tensor, "height width num_channels"], alphas: Float[Tensor, "height width 1"]
    ) -> Float[Tensor, "height width num_scores"]:
        """Makes relevancy of what was splatted; exactly 0 where next to nothing of what was seen is shown.

        Args:
            splatted: `channels`, composited over black.
            alphas: The opacity of all Gaussians.
        """
        count = len(self._places)
        opacities = torch.cat([splatted[..., count:], alphas], dim=-1)
        # Infinity divides to zero, in one pass less than a choice afterwards.
        divisors = opacities.masked_fill_(opacities <= EMPTY_NORM, float("inf"))
        if divisors.shape[-1] > 1:
            divisors = divisors[..., self._places]
        return (splatted[..., :count] / divisors).clamp_(max=1.0)
