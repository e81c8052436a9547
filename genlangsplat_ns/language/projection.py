"""A fixed random projection, the autoencoder of encoders without a trained one. It is the same on every machine.

The latents of a scene only need to tell its own regions apart, because the scene memory stores the embeddings of these
regions. Random directions are as good for that as trained ones, since a random projection approximately preserves
angles (Johnson and Lindenstrauss 1984, "Extensions of Lipschitz mappings into a Hilbert space").
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity

LATENT_DIM = 16
"""Width of the latents: 8 are too few to tell regions apart, and 32 are hardly better."""


def is_projection(identity: AutoencoderIdentity) -> bool:
    """Returns whether an autoencoder is the projection of this module."""
    return identity.name == _name(identity.latent_dim)


def _name(latent_dim: int) -> str:
    return f"projection-{latent_dim}"


def projection_autoencoder(encoder_identity: str, embedding_dim: int, latent_dim: int = LATENT_DIM) -> Autoencoder:
    """Makes an autoencoder from orthonormal random directions: a matrix encodes, and its transpose decodes.

    It is float32, in evaluation mode and without gradients.

    Raises:
        GenLangSplatError: A width is not positive, or there are more latent than embedding dimensions.
    """
    identity = AutoencoderIdentity(
        _name(latent_dim),
        encoder_identity,
        embedding_dim,
        latent_dim,
        architecture="linear",
        training_data="none: a fixed random projection with seed 0",
    )
    if latent_dim > embedding_dim:
        raise GenLangSplatError(
            f"A projection cannot have more latent dimensions ({latent_dim}) than embedding dimensions "
            f"({embedding_dim}). Choose a smaller D."
        )
    autoencoder = Autoencoder(identity)
    directions = torch.from_numpy(orthonormal_directions(embedding_dim, latent_dim)).float()
    autoencoder.load_state_dict({"encoder.weight": directions.T, "decoder.weight": directions})
    return autoencoder.eval().requires_grad_(False)


def orthonormal_directions(
    embedding_dim: int, latent_dim: int
) -> Float64[NDArray[np.float64], "embedding_dim latent_dim"]:
    """Draws random orthonormal directions.

    numpy's generator gives the same numbers on every machine. The signs, which a QR decomposition leaves open, are
    fixed.
    """
    drawn = np.random.Generator(np.random.PCG64(0)).standard_normal((embedding_dim, latent_dim))
    basis, triangle = np.linalg.qr(drawn)
    directions: NDArray[np.float64] = basis * np.where(np.diag(triangle) < 0, -1.0, 1.0)
    return directions
