"""The scene memory: stores the embeddings of a scene's regions and decodes latents with them.

A pre-trained decoder has to map a low-dimensional latent to an embedding for any scene. But one scene contains only a
few thousand distinct embeddings, and its latents only need to tell these apart. So the memory stores them, and decodes
a latent z to the posterior mean

    D(z) = normalize( sum_k m_k exp(c <z, k>) v_k + p(z) )

with keys k, their masses m_k and mean embeddings v_k, and the concentration c of a von Mises-Fisher kernel. The prior
p(z) is the embedding from the pre-trained decoder, weighted by exp(c `PRIOR_COSINE`). It dominates if no key is near.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, Int64
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.attention import KeyTable, attend, weighted_sums
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.decoding import ComparedValues, Decode
from genlangsplat_ns.language.settings import DecoderName
from genlangsplat_ns.utils.files import tensors_sha256
from genlangsplat_ns.utils.lazy import lazy_property
from genlangsplat_ns.utils.vectors import SHORTEST

LOGGER = logging.getLogger(__name__)

MEMORY_REQUIRED = (
    "The run has no scene memory to decode with. Add one with gen-langsplat lift, or omit --decoder memory."
)

NO_MEMORY = (
    "This run has no scene memory, so the autoencoder decodes its latents. Add one with gen-langsplat lift for better "
    "answers."
)

PRIOR_COSINE = 0.3
"""Cosine at which a key with the mass of the whole scene has the same weight as the prior."""

MIN_PRIOR_SHARE = 1e-3
"""The prior is ignored where its share of the weights is below this."""

FORMAT = "genlangsplat-memory-1"
"""Format name stored in a checkpoint."""

BUFFERS = ("keys", "log_masses", "values", "concentration")

REFIT = (
    "Fit it again with gen-langsplat lift, or decode with the pre-trained autoencoder: --decoder autoencoder with "
    "gen-langsplat query, export, remove, describe or evaluate, or decoder: autoencoder under model in config.yml."
)
"""Advice in the error messages about an unusable memory."""

MAX_KEYS = 65_536
"""A checkpoint with more keys than this is damaged."""


def prior_of(concentration: float) -> float:
    """Returns the logarithm of the prior's weight."""
    return concentration * PRIOR_COSINE


class SceneMemory(nn.Module):
    """Keys and values of a scene (see the module's docstring), in half precision, about one megabyte.

    Args:
        keys: Unit keys in latent space.
        log_masses: Logarithm of the share of each key in the total mass.
        values: Mean embedding of the regions of each key, of length at most 1.
        concentration: Concentration of the kernel.
        encoder: Identity of the encoder of the embeddings.

    Raises:
        GenLangSplatError: There is no key, the shapes do not match, a number is not finite, or the concentration is
            not positive.
    """

    keys: Tensor
    log_masses: Tensor
    values: Tensor
    concentration: Tensor

    def __init__(
        self,
        keys: Float[Tensor, "num_keys latent_dim"],
        log_masses: Float[Tensor, " num_keys"],
        values: Float[Tensor, "num_keys embedding_dim"],
        concentration: float,
        encoder: str,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("keys", keys.half())
        self.register_buffer("log_masses", log_masses.half())
        self.register_buffer("values", values.half())
        self.register_buffer("concentration", torch.tensor(float(concentration)))
        self._table: KeyTable | None = None
        _check_shapes(dict(self.named_buffers()))
        broken = [name for name, value in self.named_buffers() if not bool(value.isfinite().all())]
        if broken or not float(self.concentration) > 0:
            raise GenLangSplatError(
                f"The scene's memory contains NaN, infinity or a concentration that is not positive in its "
                f"{', '.join(broken) or 'concentration'}. {REFIT}"
            )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def latent_dim(self) -> int:
        """Width D of the latents."""
        return self.keys.shape[1]

    @property
    def embedding_dim(self) -> int:
        """Width E of the embeddings."""
        return self.values.shape[1]

    @property
    def mean(self) -> Float[Tensor, " embedding_dim"]:
        """The mass-weighted mean of all embeddings, normalized."""
        return F.normalize(self.table.log_masses.exp() @ self.table.values, dim=-1)

    @property
    def table(self) -> KeyTable:
        """The keys in single precision, prepared for attention."""
        if self._table is None or self._table.keys.device != self.keys.device:
            concentration = float(self.concentration)
            self._table = KeyTable.of(
                F.normalize(self.keys.float(), dim=-1),
                self.log_masses.float(),
                self.values.float(),
                concentration,
                prior_of(concentration),
            )
        return self._table

    def require_fitting(self, encoder: str, latent_dim: int, embedding_dim: int) -> None:
        """Raises GenLangSplatError unless the memory belongs to the encoder and the dimensions of a run."""
        own, expected = (self.encoder, self.latent_dim, self.embedding_dim), (encoder, latent_dim, embedding_dim)
        if own != expected:
            raise GenLangSplatError(
                f"The scene's memory belongs to the encoder {own[0]!r}, with {own[1]} latent and {own[2]} embedding "
                f"dimensions; the run has {expected[0]!r}, {expected[1]} and {expected[2]}. {REFIT}"
            )

    # State

    @property
    def sha256(self) -> str:
        """Digest of all buffers."""
        return tensors_sha256(dict(self.named_buffers()))

    def get_extra_state(self) -> dict[str, Any]:
        """Returns the format, the encoder and the digest for the checkpoint."""
        return {"format": FORMAT, "encoder": self.encoder, "sha256": self.sha256}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Checks the loaded buffers against the stored digest.

        Raises:
            GenLangSplatError: The format or the digest differs.
        """
        if state.get("format") != FORMAT or state.get("sha256") != self.sha256:
            raise GenLangSplatError(
                f"The scene's memory is damaged: its format is {state.get('format')!r}, expected {FORMAT!r}, or its "
                f"numbers do not match the digest stored with them. {REFIT}"
            )
        self._table = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SceneMemory:
        """Creates a memory from its `state_dict`.

        Raises:
            GenLangSplatError: An entry is missing or damaged.
        """
        extra = state.get("_extra_state")
        buffers = {name: state[name] for name in BUFFERS if isinstance(state.get(name), Tensor)}
        if len(buffers) < len(BUFFERS) or not isinstance(extra, Mapping):
            lacking = ", ".join(name for name in BUFFERS if name not in buffers) or "_extra_state"
            raise GenLangSplatError(f"The scene's memory lacks its {lacking}, or it has the wrong type. {REFIT}")
        _check_shapes(buffers)
        keys, log_masses, values, concentration = buffers.values()
        memory = cls(keys, log_masses, values, float(concentration), str(extra.get("encoder")))
        memory.set_extra_state(dict(extra))
        return memory


def _check_shapes(buffers: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(buffer.shape) for name, buffer in buffers.items()}
    keys, log_masses, values, concentration = (shapes[name] for name in BUFFERS)
    fits = len(keys) == len(values) == 2 and log_masses == keys[:1] == values[:1] and concentration == ()
    if not fits or not 0 < keys[0] <= MAX_KEYS:
        raise GenLangSplatError(
            f"The scene's memory has buffers of the shapes {shapes}, expected (keys, latent_dim), (keys,), (keys, "
            f"embedding_dim) and (), with 1 to {MAX_KEYS:,} keys. {REFIT}"
        )


def take_memory(
    state: dict[str, Any], prefix: str, identity: AutoencoderIdentity, decoder: DecoderName
) -> SceneMemory | None:
    """Creates the memory from those entries of a checkpoint that begin with `prefix`; None if there is none.

    If the run decodes by its autoencoder, an unusable memory is ignored, and its entries are removed.

    Raises:
        GenLangSplatError: `decoder` is `memory`, and the memory is damaged or has another encoder or width.
    """
    names = [name for name in state if name.startswith(prefix)]
    if not names:
        return None
    try:
        memory = SceneMemory.from_state({name.removeprefix(prefix): state[name] for name in names})
        memory.require_fitting(identity.encoder, identity.latent_dim, identity.embedding_dim)
    except GenLangSplatError as error:
        if decoder == "memory":
            raise
        LOGGER.warning("Ignoring the scene's memory: %s", error)
        for name in names:
            del state[name]
        return None
    return memory


@dataclass(frozen=True)
class MemoryDecoder:
    """Decodes latents with a scene memory, and with the prior (the pre-trained decoder) where no key is near."""

    memory: SceneMemory
    prior: Decode

    def __call__(self, latents: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Decodes latents of any length to unit embeddings; a zero latent decodes to the mean of the scene."""
        decoded = self.attend(latents.reshape(-1, latents.shape[-1])).embeddings()
        return decoded.reshape(*latents.shape[:-1], self.memory.embedding_dim)

    @lazy_property
    def compared(self) -> ComparedValues:
        """The memory's values, prepared for comparison with texts."""
        return ComparedValues(self.memory.table.values)

    @torch.no_grad()
    def attend(self, latents: Float[Tensor, "count latent_dim"]) -> AttendedLatents:
        """Decodes latents to weights over the memory's values."""
        table = self.memory.table
        found = attend(table, latents)
        weights, lengths = found.weights, found.lengths
        rows = (found.priors > MIN_PRIOR_SHARE).nonzero().squeeze(-1)
        contributions = latents.new_zeros(0, self.memory.embedding_dim)
        if len(rows):
            # The prior is undefined for a zero latent, so the mean of the scene replaces it.
            nonzero = latents[rows].any(dim=-1, keepdim=True)
            contributions = found.priors[rows, None] * torch.where(nonzero, self.prior(latents[rows]), self.memory.mean)
            sums = weighted_sums(found.indices[rows], weights[rows], table.values) + contributions
            lengths = lengths.index_copy(0, rows, sums.norm(dim=-1))
            contributions = contributions / lengths[rows, None].clamp_min(SHORTEST)
        return AttendedLatents(
            self.compared, found.indices, weights / lengths[:, None].clamp_min(SHORTEST), rows, contributions
        )


@dataclass(frozen=True, eq=False)
class AttendedLatents:
    """Unit embeddings of latents, stored as weights over a memory's values plus contributions of the prior.

    Attributes:
        values: The memory's values.
        indices: Indices of the values each latent attends to, by descending weight.
        weights: Weights of these values.
        rows: Indices of the latents to which the prior contributes.
        contributions: Contribution of the prior to these latents.
    """

    values: ComparedValues
    indices: Int32[Tensor, "count neighbors"]
    weights: Float[Tensor, "count neighbors"]
    rows: Int64[Tensor, " num_rows"]
    contributions: Float[Tensor, "num_rows embedding_dim"]

    def cosines(self, vectors: Float[Tensor, "num_vectors embedding_dim"]) -> Float[Tensor, "count num_vectors"]:
        """Computes cosines with unit vectors, without computing embeddings."""
        values = self.values.values
        return self._weighted_sum(self.values.products(vectors), self.contributions.to(values) @ vectors.to(values).T)

    def embeddings(self) -> Float[Tensor, "count embedding_dim"]:
        """Computes the unit embeddings."""
        return self._weighted_sum(self.values.values, self.contributions.to(self.values.values))

    def compact(self) -> AttendedLatents:
        """Returns a copy with the prior's contributions in half precision, for caching."""
        return replace(self, contributions=self.contributions.half())

    def _weighted_sum(self, per_value: Tensor, per_contribution: Tensor) -> Tensor:
        return weighted_sums(self.indices, self.weights, per_value).index_add_(0, self.rows, per_contribution)
