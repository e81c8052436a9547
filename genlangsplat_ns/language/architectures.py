"""The networks an autoencoder can be built from, and the start of their linear parts from principal components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError


def _mlp(embedding_dim: int, latent_dim: int) -> tuple[nn.Module, nn.Module]:
    return (
        nn.Sequential(*_hidden(embedding_dim, 640), *_hidden(640, 320), nn.Linear(320, latent_dim)),
        nn.Sequential(*_hidden(latent_dim, 512), *_hidden(512, 1024), nn.Linear(1024, embedding_dim)),
    )


def _hidden(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.GELU()


def _linear(embedding_dim: int, latent_dim: int) -> tuple[nn.Module, nn.Module]:
    return nn.Linear(embedding_dim, latent_dim, bias=False), nn.Linear(latent_dim, embedding_dim, bias=False)


class RowBatchNorm(nn.BatchNorm1d):
    """Batch normalization of the last dimension, with all dimensions before it as the batch."""

    def forward(self, rows: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Normalizes; in evaluation mode each row for itself."""
        return super().forward(rows.reshape(-1, self.num_features)).view_as(rows)


def _langsplat(embedding_dim: int, latent_dim: int) -> tuple[nn.Module, nn.Module]:
    encoder = _stack((embedding_dim, 256, 128, 64, 32, latent_dim), lambda width: (RowBatchNorm(width), nn.ReLU()))
    decoder = _stack((latent_dim, 32, 64, 128, 256, 256, embedding_dim), lambda width: (nn.ReLU(),))
    return encoder, decoder


def _stack(widths: Sequence[int], between: Callable[[int], tuple[nn.Module, ...]]) -> nn.Sequential:
    """Linear layers from width to width, with `between(width)` wherever one follows another."""
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for inputs, outputs in pairwise(widths[1:]):
        layers += [*between(inputs), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


class LinearPlusResidual(nn.Module):
    """A linear map plus a correction by an MLP, which is exactly zero before training.

    Args:
        widths: Widths from the input over the hidden layers of the MLP to the output.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Linear(widths[0], widths[-1])
        self.residual = _stack(widths, lambda width: (nn.GELU(),))
        last = self.residual[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, rows: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Maps each row."""
        return self.linear(rows) + self.residual(rows)


def _residual(embedding_dim: int, latent_dim: int) -> tuple[nn.Module, nn.Module]:
    return (
        LinearPlusResidual((embedding_dim, 512, 512, latent_dim)),
        LinearPlusResidual((latent_dim, 512, 512, 512, embedding_dim)),
    )


ARCHITECTURES: dict[str, Callable[[int, int], tuple[nn.Module, nn.Module]]] = {
    "mlp": _mlp,
    "linear": _linear,
    "langsplat": _langsplat,
    "residual": _residual,
}
"""Builders of (encoder, decoder) from (embedding_dim, latent_dim), by the name that stands in the identity.

`mlp` is E-640-320-D and D-512-1024-E (the paper gives neither widths nor activation): width pays in the decoder, hardly
in the encoder. Its layer normalization trains as well as batch normalization and, unlike that, codes an embedding alone
exactly as among others. `linear` is the baseline whose decoding commutes with blending. `langsplat` has the widths and
the batch normalization of LangSplat's autoencoder, with D in the place of its 3. `residual` is a linear map, which can
start from principal components, plus an MLP that learns what the linear map misses.
"""


SMALLEST_MOMENT = 1e-4
"""Part of the greatest second moment below which a principal direction counts as having this part."""


def linear_maps(encoder: nn.Module, decoder: nn.Module) -> tuple[nn.Linear, nn.Linear] | None:
    """The linear maps of both directions, which `start_from_pca` sets; None if an architecture has no such thing."""
    down, up = (module.linear if isinstance(module, LinearPlusResidual) else module for module in (encoder, decoder))
    return (down, up) if isinstance(down, nn.Linear) and isinstance(up, nn.Linear) else None


@torch.no_grad()
def start_from_pca(
    encoder: nn.Module, decoder: nn.Module, embeddings: Float[Tensor, "count embedding_dim"], latent_dim: int
) -> None:
    """Sets the linear maps to the projection on the leading principal directions of embeddings and back.

    Only the direction of a latent is kept, so its length cannot say how far an embedding lies from the mean. Hence the
    directions are those of the uncentered second moments: the mean is carried by the first of them, and no linear code
    of as many dimensions keeps more of unit embeddings (in the mean of the squared cosine). Biases start at zero.

    The latents of `residual` are scaled to the same spread in every dimension, and back by its decoder: that changes no
    reconstruction, but the first direction no longer outweighs the others in what the MLP sees. Those of `linear` are
    not, so that a blend of its latents stays as near as can be to the blend of the embeddings.

    Args:
        encoder: The encoder of `linear` or `residual`.
        decoder: Its decoder.
        embeddings: A sample of unit embeddings, at least as many as latent dimensions.
        latent_dim: Width D of the latents.

    Raises:
        GenLangSplatError: If the architecture has no linear map, or the embeddings are too few or of another width.
    """
    maps = linear_maps(encoder, decoder)
    if maps is None:
        raise GenLangSplatError(
            "Only the architectures with a linear map (linear, residual) can start from principal components. "
            "Choose one of them, or start at random."
        )
    down, up = maps
    if embeddings.shape[1] != down.in_features or len(embeddings) < latent_dim:
        raise GenLangSplatError(
            f"The principal components of an autoencoder {down.in_features} -> {latent_dim} need at least {latent_dim} "
            f"embeddings of width {down.in_features}, got {len(embeddings)} of width {embeddings.shape[1]}."
        )
    if latent_dim > down.in_features:
        raise GenLangSplatError(
            f"There are only {down.in_features} principal directions, but {latent_dim} latents. Choose a smaller D."
        )
    rows = embeddings.double()
    moments, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    basis = vectors[:, -latent_dim:].flip(dims=(1,))
    spread = torch.ones(latent_dim, dtype=rows.dtype, device=rows.device)
    if isinstance(encoder, LinearPlusResidual):
        leading = moments[-latent_dim:].flip(dims=(0,))
        # Directions that the sample hardly has must not be blown up.
        spread = leading.clamp(min=float(leading[0]) * SMALLEST_MOMENT).sqrt()
    down.weight.copy_((basis / spread).T)
    up.weight.copy_(basis * spread)
    for module in maps:
        if module.bias is not None:
            nn.init.zeros_(module.bias)


__all__ = ["ARCHITECTURES", "LinearPlusResidual", "RowBatchNorm", "linear_maps", "start_from_pca"]
