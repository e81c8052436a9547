"""A synthetic memory for time measurements, where the stored values do not matter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.language.memory import MemoryDecoder, SceneMemory

NUM_KEYS = 1024
CONCENTRATION = 60.0


def made_up_memory(latents: Float[Tensor, "*batch latent_dim"], embedding_dim: int, encoder: str) -> SceneMemory:
    """A memory of `NUM_KEYS` keys among the latents.

    Args:
        latents: Latents of a scene, from which the keys are drawn.
        embedding_dim: Width E of the values, which are random.
        encoder: Identity of an encoder.
    """
    generator = torch.Generator().manual_seed(0)
    rows = latents.reshape(-1, latents.shape[-1])
    rows = rows[rows.any(dim=-1)]
    keys = F.normalize(rows[torch.randint(len(rows), (NUM_KEYS,), generator=generator)], dim=-1)
    values = 0.9 * F.normalize(torch.randn(NUM_KEYS, embedding_dim, generator=generator), dim=-1)
    log_masses = torch.rand(NUM_KEYS, generator=generator).softmax(dim=0).log()
    return SceneMemory(keys, log_masses, values, CONCENTRATION, encoder)


def made_up_decoder(latents: Float[Tensor, "*batch latent_dim"], embedding_dim: int = 512) -> MemoryDecoder:
    """Decodes with a synthetic memory, and with an untrained decoder of the usual size if no key is near."""
    identity = AutoencoderIdentity("random", "random", embedding_dim, latents.shape[-1], "mlp")
    autoencoder = Autoencoder(identity).eval().requires_grad_(False)
    return MemoryDecoder(made_up_memory(latents, embedding_dim, identity.encoder), autoencoder.decode)
