"""Small memories and key tables with seeded random numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.language.attention import KeyTable
from genlangsplat_ns.language.memory import SceneMemory

LATENT_DIM, EMBEDDING_DIM, ENCODER = 6, 24, "tiny/1"


def unit_rows(count: int, width: int, seed: int) -> Tensor:
    """Random unit vectors."""
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def log_shares(count: int, seed: int) -> Tensor:
    """Logarithms of random masses that add up to 1."""
    masses = 0.05 + torch.rand(count, generator=torch.Generator().manual_seed(seed))
    return (masses / masses.sum()).log()


def a_table(
    num_keys: int, latent_dim: int = 16, embedding_dim: int = 24, concentration: float = 60.0, seed: int = 0
) -> KeyTable:
    """A table of random keys, with values shorter than 1, like means of unit vectors."""
    values = unit_rows(num_keys, embedding_dim, seed + 1)
    values *= torch.linspace(1.0, 0.5, num_keys)[:, None]
    keys = unit_rows(num_keys, latent_dim, seed + 2)
    # High enough that the prior has weight between random keys.
    return KeyTable.of(keys, log_shares(num_keys, seed + 3), values, concentration, 0.5 * concentration)


def latents_about(keys: Tensor, count: int, seed: int = 9) -> Tensor:
    """Latents of various lengths: at keys, between two keys, and anywhere."""
    generator = torch.Generator().manual_seed(seed)
    first, second = keys[torch.randint(len(keys), (2, count), generator=generator)]
    share = torch.rand(count, 1, generator=generator)
    between = F.normalize(share * first + (1 - share) * second, dim=-1)
    anywhere = unit_rows(count, keys.shape[1], seed + 1)
    kind = torch.arange(count)[:, None] % 3
    near = F.normalize(first + 0.3 * anywhere, dim=-1)
    latents = torch.where(kind == 0, near, torch.where(kind == 1, between, anywhere))
    return latents * 10 ** (4 * torch.rand(count, 1, generator=generator) - 2)


def a_memory(num_keys: int = 40, concentration: float = 60.0, seed: int = 0) -> SceneMemory:
    """A memory with random keys for a small scene."""
    table = a_table(num_keys, LATENT_DIM, EMBEDDING_DIM, concentration, seed)
    return SceneMemory(table.keys, table.log_masses, table.values, concentration, ENCODER)
