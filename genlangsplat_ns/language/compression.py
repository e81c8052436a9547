"""Compresses latents to half precision, or to eight bits without a stored scale.

Only the direction of a latent matters. So each latent is scaled until its largest component has the largest code, and
the scale is not stored: restoring a latent normalizes it to unit length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Float16, Float32, Shaped
from torch import Tensor
from torch.nn.functional import cosine_similarity

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.vectors import SHORTEST, unit_or_zero

Encoding = Literal["fp16", "int8"]

LARGEST_CODE = 127
"""The eight-bit code of the largest component of a latent."""

LATENTS = "gauss_params.latents"
"""Key of the latents in a model's state dict."""

LENGTHS = "gauss_params.latent_lengths"
"""Key of the lengths of compressed latents that are not unit vectors."""

UNIT_TOLERANCE = 1e-3
"""A latent whose length differs from 1 by less than this is a unit vector."""

CHUNK_ROWS = 65_536
"""Number of latents decoded at a time: two chunks of embeddings with 512 dimensions take 270 MB."""


@dataclass(frozen=True)
class CompressedLatents:
    """Latents as a compressed run stores them."""

    codes: Shaped[Tensor, "num_gaussians levels latent_dim"]
    """Directions, in fp16 or int8; exactly zero for Gaussians on which no region was seen."""
    lengths: Float16[Tensor, "num_gaussians levels"] | None = None
    """Lengths; None if every latent is a unit vector or zero, as after lifting."""

    def restore(self) -> Float32[Tensor, "num_gaussians levels latent_dim"]:
        """Returns the latents in full precision."""
        latents = unit_or_zero(self.codes.float())
        return latents if self.lengths is None else latents * self.lengths.float()[..., None]

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Returns the state dict entries that `restore_latents` reads."""
        weights = {prefix + LATENTS: self.codes}
        return weights if self.lengths is None else {**weights, prefix + LENGTHS: self.lengths}


def restore_latents(weights: dict[str, Any]) -> dict[str, Any]:
    """Returns a model's weights with compressed latents restored to full precision; other weights are unchanged."""
    codes = weights.get(LATENTS)
    if codes is None or codes.dtype == torch.float32:
        return weights
    others = {name: value for name, value in weights.items() if name != LENGTHS}
    return {**others, LATENTS: CompressedLatents(codes, weights.get(LENGTHS)).restore()}


def compress_latents(
    latents: Float[Tensor, "num_gaussians levels latent_dim"], encoding: Encoding
) -> CompressedLatents:
    """Compresses latents to two bytes per component (fp16) or one (int8).

    The sine of the angle between a latent and its restored version is below 0.0005 in fp16, and at most
    `sqrt(latent_dim - 1) / 254` in int8: the largest component is exact, and each other component is off by at most
    half a step. Latents from lifting are unit vectors, those from the paper's optimization have any length.

    Raises:
        GenLangSplatError: A latent is not finite, or all are zero.
    """
    num_broken = int((~latents.isfinite().all(dim=-1)).sum())
    if num_broken:
        raise GenLangSplatError(
            f"{num_broken} latents contain NaN or infinity; expected unit vectors or zeros. Train the language phase "
            "again."
        )
    if not bool(latents.any()):
        raise GenLangSplatError("Found only zero latents; expected some nonzero. Train the language phase to its end.")
    unit, lengths = unit_or_zero(latents), latents.norm(dim=-1)
    if encoding == "fp16":
        codes = unit.half()
    else:
        largest = unit.abs().amax(dim=-1, keepdim=True).clamp_min(SHORTEST)
        codes = (unit / largest * LARGEST_CODE).round().to(torch.int8)
    is_unit = bool(((lengths - 1).abs() < UNIT_TOLERANCE)[lengths > SHORTEST].all())
    return CompressedLatents(codes, None if is_unit else lengths.half())


@dataclass(frozen=True)
class Agreement:
    """Cosines between pairs of vectors."""

    mean: float
    """Mean cosine."""
    worst: float
    """Smallest cosine."""


@torch.no_grad()
def directions_agree(
    first: Float[Tensor, "num_gaussians levels latent_dim"],
    second: Float[Tensor, "num_gaussians levels latent_dim"],
    decode: Callable[[Tensor], Tensor] | None = None,
) -> Agreement:
    """Compares two versions of the latents of a scene, or of the embeddings that `decode` makes of them.

    Latents that are zero in the first version are ignored.
    """
    filled = first.any(dim=-1)
    cosines = []
    for pair in zip(first[filled].split(CHUNK_ROWS), second[filled].split(CHUNK_ROWS), strict=True):
        rows = pair if decode is None else [decode(latents) for latents in pair]
        cosines.append(cosine_similarity(rows[0], rows[1], dim=-1))
    all_cosines = torch.cat(cosines)
    return Agreement(float(all_cosines.mean()), float(all_cosines.min()))
