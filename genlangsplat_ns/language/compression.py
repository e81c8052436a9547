"""Latents in fewer bytes: half precision, or eight bits without a stored scale.

A latent says what it says by its direction. So each is scaled until its largest component just fits, and the scale is
forgotten: whoever reads it makes it a unit vector again.
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
"""What the largest component of a latent becomes in eight bits."""

LATENTS = "gauss_params.latents"
"""Entry of the latents in the weights of a model."""

LENGTHS = "gauss_params.latent_lengths"
"""Entry of their lengths, where they are compressed and not all of length 1."""

UNIT_TOLERANCE = 1e-3
"""Latents whose lengths differ by less from 1 are unit vectors."""

CHUNK_ROWS = 65_536
"""Latents decoded at a time: with 512 dimensions two of these embeddings take 270 MB."""


@dataclass(frozen=True)
class CompressedLatents:
    """Latents as a compressed run stores them."""

    codes: Shaped[Tensor, "num_gaussians levels latent_dim"]
    """Directions, in fp16 or int8; exact zeros stand for Gaussians that no region was seen on."""
    lengths: Float16[Tensor, "num_gaussians levels"] | None = None
    """Lengths; None where every latent is a unit vector or zero, as lifting leaves them."""

    def restore(self) -> Float32[Tensor, "num_gaussians levels latent_dim"]:
        """Returns the latents in full precision."""
        latents = unit_or_zero(self.codes.float())
        return latents if self.lengths is None else latents * self.lengths.float()[..., None]

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Returns the entries of a model's weights that hold them; `restore_latents` reads these."""
        weights = {prefix + LATENTS: self.codes}
        return weights if self.lengths is None else {**weights, prefix + LENGTHS: self.lengths}


def restore_latents(weights: dict[str, Any]) -> dict[str, Any]:
    """Returns a model's weights with compressed latents in full precision, and others as they are."""
    codes = weights.get(LATENTS)
    if codes is None or codes.dtype == torch.float32:
        return weights
    others = {name: value for name, value in weights.items() if name != LENGTHS}
    return {**others, LATENTS: CompressedLatents(codes, weights.get(LENGTHS)).restore()}


def compress_latents(
    latents: Float[Tensor, "num_gaussians levels latent_dim"], encoding: Encoding
) -> CompressedLatents:
    """Stores latents in two bytes a component or in one.

    The sine of the angle between a latent and what comes back is below 0.0005 in fp16, and at most
    `sqrt(latent_dim - 1) / 254` in int8: the largest component is exact, each other one wrong by half a step.

    Args:
        latents: Unit latents, as lifting makes them, or of any length, as the paper's optimization does.
        encoding: How.

    Raises:
        GenLangSplatError: A latent is not finite, or all are zero.
    """
    broken = int((~latents.isfinite().all(dim=-1)).sum())
    if broken:
        raise GenLangSplatError(
            f"{broken} latents hold NaN or infinity, expected unit vectors or zeros. Train the language phase again."
        )
    if not bool(latents.any()):
        raise GenLangSplatError("Found only zero latents, expected some. Train the language phase to its end.")
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
    """How alike pairs of vectors are."""

    mean: float
    """Their mean cosine."""
    worst: float
    """Their smallest cosine."""


@torch.no_grad()
def directions_agree(
    first: Float[Tensor, "num_gaussians levels latent_dim"],
    second: Float[Tensor, "num_gaussians levels latent_dim"],
    decode: Callable[[Tensor], Tensor] | None = None,
) -> Agreement:
    """Compares the latents of all Gaussians that have one, or their embeddings.

    Args:
        first: Latents, some of which may be zero.
        second: The same ones, compressed and restored.
        decode: Turns latents into embeddings; None compares the latents themselves.
    """
    filled = first.any(dim=-1)
    cosines = []
    for pair in zip(first[filled].split(CHUNK_ROWS), second[filled].split(CHUNK_ROWS), strict=True):
        rows = pair if decode is None else [decode(latents) for latents in pair]
        cosines.append(cosine_similarity(rows[0], rows[1], dim=-1))
    every = torch.cat(cosines)
    return Agreement(float(every.mean()), float(every.min()))


@dataclass(frozen=True)
class Storage:
    """What a method stores for language on each Gaussian."""

    method: str
    """Its name."""
    stored: str
    """What that is, in words, and where it is said."""
    bytes_per_gaussian: int
    """Its size, which is also that of a million Gaussians in MB."""


def storage_of_methods(levels: int, latent_dim: int) -> list[Storage]:
    """Sizes of the language of a Gaussian at all levels, in this project and elsewhere.

    Geometry is left out, although LangSplat and LangSplatV2 store it once for each level.

    Args:
        levels: Levels of regions.
        latent_dim: Width of this project's latents.
    """
    ours = [
        Storage("Gen-LangSplat", f"{levels} x {latent_dim} {name}", levels * latent_dim * size)
        for name, size in (("float32", 4), ("fp16", 2), ("int8", 1))
    ]
    return [
        *ours,
        Storage("LangSplat", f"{levels} models x 3 float32, and an autoencoder of the scene's own", levels * 3 * 4),
        Storage("LangSplatV2", f"{levels} x (4 of 64 entries: 1 byte and a float32 each), at queries", levels * 4 * 5),
        Storage("LangSplatV2", f"{levels} models x 64 float32 logits, in its checkpoints", levels * 64 * 4),
        Storage("Occam's LGS", f"{levels} models x 512 float32", levels * 512 * 4),
    ]
