"""The query mode `gaussian`: scores every Gaussian once per text and splats the score like a color.

Decoding is the expensive part and does not depend on the text. So a scene is decoded once and the result is cached:
either weights over the memory's values, or embeddings in half precision. A new text then costs a few products per
Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.decoding import NO_LATENT, Decode, Decoded, decode_to_compare, has_latent, rows_at_a_time
from genlangsplat_ns.language.query import EmbeddedQuery


class DecodedGaussians:
    """The decoded latents of a scene's Gaussians; several threads may decode and score at once.

    The viewer may interrupt a frame between two lines of Python. The chunks decoded so far are kept, and the next frame
    decodes the remaining ones.

    Args:
        latents: Latents of the Gaussians, of any length; near-zero latents score 0 with every text.
        decode: Maps latents to embeddings.
    """

    def __init__(self, latents: Float[Tensor, "num_gaussians levels latent_dim"], decode: Decode) -> None:
        self._shape = latents.shape[:2]
        self._latents, self._decode = latents.flatten(0, 1), decode
        filled = has_latent(self._latents).nonzero().squeeze(-1)
        self._rows = filled.split(rows_at_a_time(decode, latents.device))
        self._parts: list[Decoded | None] = [None] * len(self._rows)

    def _part(self, number: int) -> Decoded:
        decoded = self._parts[number]
        if decoded is None:
            decoded = decode_to_compare(self._decode, self._latents[self._rows[number]]).compact()
            self._parts[number] = decoded
        return decoded

    @torch.no_grad()
    def score(self, query: EmbeddedQuery) -> Float[Tensor, "num_gaussians levels num_texts"]:
        """Computes the relevancy of every Gaussian and level to each text; 0 where no region was ever seen."""
        scores = self._latents.new_zeros(len(self._latents), len(query.query.texts))
        # If all latents are zero, there is one empty chunk.
        for number, rows in enumerate(self._rows):
            scores[rows] = query.score_decoded(self._part(number))
        return torch.unflatten(scores, 0, self._shape)

    def decode(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Decodes everything that was not decoded yet, until `stopped` says so between two chunks."""
        for number in range(len(self._rows)):
            if stopped():
                return
            self._part(number)

    @torch.no_grad()
    def cosines(
        self, vectors: Float[Tensor, "num_texts embedding_dim"]
    ) -> Float[Tensor, "num_texts levels num_gaussians"]:
        """Computes the cosines of every Gaussian and level with unit vectors; NaN where no region was ever seen."""
        cosines = self._latents.new_full((len(self._latents), len(vectors)), torch.nan)
        for number, rows in enumerate(self._rows):
            cosines[rows] = self._part(number).cosines(vectors)
        return torch.unflatten(cosines, 0, self._shape).permute(2, 1, 0)


class SeenScores:
    """Scores of Gaussians, with the extra channels that normalize them by the opacity of the seen Gaussians.

    A Gaussian with a score of exactly 0 was never seen in a region, and must not lower the scores of other Gaussians
    in its pixel. So splatted scores are divided by the opacity of the seen Gaussians only. If all Gaussians were seen,
    that is the rendered opacity.

    Attributes:
        channels: The channels to splat: the scores, followed by masks of the seen Gaussians. Scores with the same mask
            share it, and scores seen on all Gaussians need none.
    """

    channels: Float[Tensor, "num_gaussians num_channels"]

    def __init__(self, scores: Float[Tensor, "num_gaussians num_scores"]) -> None:
        masks: list[Tensor] = []
        self._mask_indices: list[int] = []
        for seen in (scores > 0).T.contiguous():
            if bool(seen.all()):
                self._mask_indices.append(-1)
                continue
            equal = [index for index, mask in enumerate(masks) if torch.equal(seen, mask)]
            if not equal:
                masks.append(seen)
            self._mask_indices.append(equal[0] if equal else len(masks) - 1)
        self.channels = torch.cat([scores, torch.stack(masks, dim=-1).to(scores)], dim=-1) if masks else scores

    def divide(
        self, splatted: Float[Tensor, "height width num_channels"], alphas: Float[Tensor, "height width 1"]
    ) -> Float[Tensor, "height width num_scores"]:
        """Computes relevancy from `channels` composited over black, and from the opacity of all Gaussians.

        It is exactly 0 where almost no seen Gaussian is visible.
        """
        count = len(self._mask_indices)
        opacities = torch.cat([splatted[..., count:], alphas], dim=-1)
        # Dividing by infinity gives the zeros without a second pass.
        divisors = opacities.masked_fill_(opacities <= NO_LATENT, float("inf"))
        if divisors.shape[-1] > 1:
            divisors = divisors[..., self._mask_indices]
        return (splatted[..., :count] / divisors).clamp_(max=1.0)
