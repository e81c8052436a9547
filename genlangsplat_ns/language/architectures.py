"""Network architectures of the autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


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
        """Normalizes each row; in evaluation mode rows are independent of each other."""
        return super().forward(rows.reshape(-1, self.num_features)).view_as(rows)


def _langsplat(embedding_dim: int, latent_dim: int) -> tuple[nn.Module, nn.Module]:
    encoder = _linear_layers(
        (embedding_dim, 256, 128, 64, 32, latent_dim), lambda width: (RowBatchNorm(width), nn.ReLU())
    )
    return encoder, langsplat_decoder(latent_dim, (16, 32, 64, 128, 256, 256), embedding_dim)


def langsplat_decoder(latent_dim: int, hidden: Sequence[int], embedding_dim: int) -> nn.Sequential:
    """Builds a decoder like LangSplat's from the widths of its hidden layers."""
    return _linear_layers((latent_dim, *hidden, embedding_dim), lambda width: (nn.ReLU(),))


def _linear_layers(widths: Sequence[int], activation: Callable[[int], tuple[nn.Module, ...]]) -> nn.Sequential:
    """Builds linear layers of the given widths, with `activation(width)` between consecutive layers."""
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for inputs, outputs in pairwise(widths[1:]):
        layers += [*activation(inputs), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


class LinearPlusResidual(nn.Module):
    """A linear map plus an MLP residual that is exactly zero before training.

    Args:
        widths: Width of the input, of each hidden layer of the MLP, and of the output.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Linear(widths[0], widths[-1])
        self.residual = _linear_layers(widths, lambda width: (nn.GELU(),))
        last = self.residual[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, rows: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Maps each row."""
        outputs: Tensor = self.linear(rows) + self.residual(rows)
        return outputs


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
"""Functions that build (encoder, decoder) from (embedding_dim, latent_dim), by the name stored in the identity.

`mlp` is E-640-320-D and D-512-1024-E (the paper gives neither widths nor activation): a wider decoder improves the
reconstruction, a wider encoder hardly does. Layer normalization trains as well as batch normalization, and its output
does not depend on the other rows of a batch. `linear` is the baseline whose decoding commutes with blending.
`langsplat` has the widths and the batch normalization of LangSplat's autoencoder (encoder 256-128-64-32, decoder
16-32-64-128-256-256), with latent width D instead of 3.
`residual` is a linear map, which PCA can initialize, plus an MLP that learns the remaining error.
"""


def linear_maps(encoder: nn.Module, decoder: nn.Module) -> tuple[nn.Linear, nn.Linear] | None:
    """Returns the linear maps of encoder and decoder, which PCA can initialize; None for other architectures."""
    down, up = (module.linear if isinstance(module, LinearPlusResidual) else module for module in (encoder, decoder))
    return (down, up) if isinstance(down, nn.Linear) and isinstance(up, nn.Linear) else None
