"""The query mode `rendered` (the paper's): decodes and scores the latents of every pixel of a rendered view."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.decoding import Decode, decode_to_compare, has_latent, rows_at_a_time
from genlangsplat_ns.language.query import EmbeddedQuery


@torch.no_grad()
def score_latents(
    latents: Float[Tensor, "count latent_dim"], decode: Decode, query: EmbeddedQuery
) -> Float[Tensor, "count num_texts"]:
    """Computes the relevancy of latents of any length to each text; near-zero latents score 0 and are not decoded.

    Latents are normalized, decoded and scored in chunks, once for all texts.
    """
    scores = latents.new_zeros(latents.shape[0], len(query.query.texts))
    for rows in has_latent(latents).nonzero().squeeze(-1).split(rows_at_a_time(decode, latents.device)):
        scores[rows] = query.score_decoded(decode_to_compare(decode, latents[rows])).to(scores)
    return scores


@torch.no_grad()
def relevancy_of_zero(
    latents: Float[Tensor, "*batch latent_dim"], decode: Decode, query: EmbeddedQuery
) -> Float[Tensor, " num_texts"]:
    """Computes the relevancy of a zero latent's embedding to each text; 0.5 if the embedding is zero too.

    `latents` are any latents of the run; only their width and device are used.
    """
    embeddings = decode(latents.new_zeros(1, latents.shape[-1]))
    return query.score(F.normalize(embeddings, dim=-1))[0]


def relevancy_maps(
    latents: Float[Tensor, "height width levels latent_dim"], decode: Decode, query: EmbeddedQuery
) -> Float[Tensor, "num_texts levels height width"]:
    """Computes the relevancy of every pixel and level of a rendered view to each text.

    The rendered latents are not normalized; empty pixels have a length near 0 and score 0.
    """
    height, width, levels, _ = latents.shape
    scores = score_latents(latents.reshape(height * width * levels, -1), decode, query)
    return scores.reshape(height, width, levels, -1).permute(3, 2, 0, 1)
