"""The scene's memory: what its regions really looked like to the encoder, filed under what all views say of them.

A general decoder guesses an embedding from the few numbers of a latent, for every scene in the world. But a scene has
seen a few thousand real embeddings, and its latents need only tell these apart. So they are kept, and a latent z is
decoded to the posterior mean

    D(z) = normalize( sum_k m_k exp(c <z, k>) v_k + p(z) )

with keys k, their masses m_k and mean embeddings v_k, and the concentration c of a von Mises-Fisher kernel. The prior
p is the pre-trained decoder's answer with the weight exp(c `NEAR`): it speaks where no key is near.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
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
from genlangsplat_ns.utils.vectors import SHORTEST

LOGGER = logging.getLogger(__name__)

NOTHING_TO_DECODE_BY = (
    "The run has no scene memory to decode by. Give it one with gen-langsplat lift, or leave out --decoder memory."
)

NO_MEMORY = (
    "This run has no scene memory, so its latents are decoded by the autoencoder. gen-langsplat lift gives it one, "
    "which finds more."
)

NEAR = 0.3
"""Cosine at which a key with the mass of the whole scene weighs as much as the prior."""

LEAST_PRIOR = 1e-3
"""Where the prior weighs less than this share, it is not asked."""

FORMAT = "genlangsplat-memory-1"
"""Stands beside the numbers in a checkpoint."""

BUFFERS = ("keys", "log_masses", "values", "concentration")

REFIT = (
    "Make it anew with gen-langsplat lift, or decode by the pre-trained autoencoder: --decoder autoencoder with "
    "gen-langsplat query, export, remove, describe or evaluate, or decoder: autoencoder under model in config.yml."
)
"""What to do about a memory that cannot be used."""

MAX_KEYS = 65_536
"""A checkpoint with more keys than this is damaged."""


def prior_of(concentration: float) -> float:
    """Logarithm of the prior's weight."""
    return concentration * NEAR


class SceneMemory(nn.Module):
    """Keys and values of a scene; see the module's text. Kept in half precision, about a megabyte.

    Args:
        keys: Unit keys in the space of latents.
        log_masses: Logarithm of the share of each key in all weights.
        values: Mean embedding of the regions of each key, at most of length 1.
        concentration: Of the kernel.
        encoder: Identity of the encoder of the embeddings.

    Raises:
        GenLangSplatError: There is no key, or a number is not finite.
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
        self.check()

    def check(self) -> None:
        """Raises when the parts do not fit each other or a number is not finite.

        Raises:
            GenLangSplatError: What is wrong.
        """
        _check_shapes(dict(self.named_buffers()))
        broken = [name for name, value in self.named_buffers() if not bool(value.isfinite().all())]
        if broken or not float(self.concentration) > 0:
            raise GenLangSplatError(
                f"The scene's memory holds NaN, infinity or a concentration that is not positive in its "
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
        """The unit mean of all embeddings, by their masses."""
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
        """Raises when the memory belongs to other latents or embeddings.

        Raises:
            GenLangSplatError: It does; the message names both.
        """
        own, wanted = (self.encoder, self.latent_dim, self.embedding_dim), (encoder, latent_dim, embedding_dim)
        if own != wanted:
            raise GenLangSplatError(
                f"The scene's memory is of the encoder {own[0]!r}, with {own[1]} latent and {own[2]} embedding "
                f"dimensions; the run has {wanted[0]!r}, {wanted[1]} and {wanted[2]}. {REFIT}"
            )

    # State

    @property
    def sha256(self) -> str:
        """Digest of all its numbers."""
        return tensors_sha256(dict(self.named_buffers()))

    def get_extra_state(self) -> dict[str, Any]:
        """Returns what the checkpoint says of the memory beside its numbers."""
        return {"format": FORMAT, "encoder": self.encoder, "sha256": self.sha256}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Checks that the numbers just loaded are those that were stored.

        Raises:
            GenLangSplatError: They are not.
        """
        if state.get("format") != FORMAT or state.get("sha256") != self.sha256:
            raise GenLangSplatError(
                f"The scene's memory is damaged: its format is {state.get('format')!r} where {FORMAT!r} is expected, "
                f"or its numbers do not have the digest that was stored with them. {REFIT}"
            )
        self._table = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SceneMemory:
        """Makes a memory of its `state_dict`.

        Raises:
            GenLangSplatError: A part is missing or damaged.
        """
        missing = [name for name in (*BUFFERS, "_extra_state") if name not in state]
        if missing:
            raise GenLangSplatError(f"The scene's memory lacks its {', '.join(missing)}. {REFIT}")
        extra = state["_extra_state"]
        parts = {name: state[name] for name in BUFFERS}
        if not isinstance(extra, Mapping) or not all(isinstance(part, Tensor) for part in parts.values()):
            raise GenLangSplatError(f"The scene's memory is damaged: its parts are of other types. {REFIT}")
        _check_shapes(parts)
        keys, log_masses, values, concentration = parts.values()
        memory = cls(keys, log_masses, values, float(concentration), str(extra.get("encoder")))
        memory.set_extra_state(dict(extra))
        return memory


def _check_shapes(parts: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(part.shape) for name, part in parts.items()}
    keys, log_masses, values, concentration = (shapes[name] for name in BUFFERS)
    fits = len(keys) == len(values) == 2 and log_masses == keys[:1] == values[:1] and concentration == ()
    if not fits or not 0 < keys[0] <= MAX_KEYS:
        raise GenLangSplatError(
            f"The scene's memory has parts of the shapes {shapes}, expected (keys, latent_dim), (keys,), (keys, "
            f"embedding_dim) and (), with 1 to {MAX_KEYS:,} keys. {REFIT}"
        )


def take_memory(
    state: dict[str, Any], prefix: str, identity: AutoencoderIdentity, decoder: DecoderName
) -> SceneMemory | None:
    """Makes the memory of a checkpoint.

    Args:
        state: The entries of the checkpoint; those of a memory that is left out are taken away.
        prefix: Where the memory's entries begin.
        identity: The autoencoder of the run.
        decoder: What is to decode; with `autoencoder` a damaged memory is left out.

    Returns:
        The memory; None where there is none.

    Raises:
        GenLangSplatError: The memory is damaged or of another encoder or width, and is to decode.
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
        LOGGER.warning("The scene's memory is left out: %s", error)
        for name in names:
            del state[name]
        return None
    return memory


@dataclass(frozen=True)
class MemoryDecoder:
    """Decodes latents by a scene's memory, and by the prior where no key is near.

    Attributes:
        memory: The memory.
        prior: The pre-trained decoder.
    """

    memory: SceneMemory
    prior: Decode

    def __call__(self, latents: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Gives the unit embeddings of latents of any length; a latent of zero becomes the mean of the scene."""
        decoded = self.attend(latents.reshape(-1, latents.shape[-1])).embeddings()
        return decoded.reshape(*latents.shape[:-1], self.memory.embedding_dim)

    @cached_property
    def compared(self) -> ComparedValues:
        """The memory's values, ready to be compared with texts."""
        return ComparedValues(self.memory.table.values)

    @torch.no_grad()
    def attend(self, latents: Float[Tensor, "count latent_dim"]) -> AttendedLatents:
        """Gives what latents decode to as weights of the memory's values."""
        table = self.memory.table
        found = attend(table, latents)
        weights, lengths = found.weights, found.lengths
        rows = (found.priors > LEAST_PRIOR).nonzero().squeeze(-1)
        guesses = latents.new_zeros(0, self.memory.embedding_dim)
        if len(rows):
            # A latent of zero is far from all keys, but the prior knows nothing of it.
            known = latents[rows].any(dim=-1, keepdim=True)
            guesses = found.priors[rows, None] * torch.where(known, self.prior(latents[rows]), self.memory.mean)
            sums = weighted_sums(found.indices[rows], weights[rows], table.values) + guesses
            lengths = lengths.index_copy(0, rows, sums.norm(dim=-1))
            guesses = guesses / lengths[rows, None].clamp_min(SHORTEST)
        return AttendedLatents(
            self.compared, found.indices, weights / lengths[:, None].clamp_min(SHORTEST), rows, guesses
        )


@dataclass(frozen=True, eq=False)
class AttendedLatents:
    """Unit embeddings of latents, as weighted sums of the values of a memory and the prior's answers.

    Attributes:
        values: The values.
        indices: Which of them, the heaviest first.
        weights: Their weights.
        rows: The latents to which the prior contributes.
        guesses: What it contributes.
    """

    values: ComparedValues
    indices: Int32[Tensor, "count neighbors"]
    weights: Float[Tensor, "count neighbors"]
    rows: Int64[Tensor, " num_guessed"]
    guesses: Float[Tensor, "num_guessed embedding_dim"]

    def cosines(self, vectors: Float[Tensor, "num_vectors embedding_dim"]) -> Float[Tensor, "count num_vectors"]:
        """Cosines with unit vectors; no embedding is made."""
        values = self.values.values
        return self._summed(self.values.products(vectors), self.guesses.to(values) @ vectors.to(values).T)

    def embeddings(self) -> Float[Tensor, "count embedding_dim"]:
        """The unit embeddings."""
        return self._summed(self.values.values, self.guesses.to(self.values.values))

    def compact(self) -> AttendedLatents:
        """The same with the prior's answers in half precision, to be kept."""
        return replace(self, guesses=self.guesses.half())

    def _summed(self, of_values: Tensor, of_guesses: Tensor) -> Tensor:
        return weighted_sums(self.indices, self.weights, of_values).index_add_(0, self.rows, of_guesses)
