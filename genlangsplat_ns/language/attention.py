"""Sparse attention of latents over the keys of a scene memory, the fast part of decoding."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import library
from genlangsplat_ns.rasterization.library import address

NEIGHBORS = 16
"""A latent attends to at most this many keys, those with the largest weights."""

NEGLIGIBLE = 2.0**-10
"""Keys whose weight is below this share of the largest weight are ignored."""

_LANES = 16
_LOG2 = log(2.0)
_ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class KeyTable:
    """Keys and values, prepared for attention.

    Attributes:
        keys: Unit keys.
        log_masses: Logarithm of the mass of each key.
        values: The value of each key, of any length.
        concentration: Concentration of the von Mises-Fisher kernel: the weight of a key is
            `mass * exp(concentration * cosine)`.
        prior: Logarithm of the weight of the prior, which competes with all keys.
        products: Inner products of all pairs of values.
    """

    keys: Float[Tensor, "num_keys latent_dim"]
    log_masses: Float[Tensor, " num_keys"]
    values: Float[Tensor, "num_keys embedding_dim"]
    concentration: float
    prior: float
    products: Float[Tensor, "num_keys num_keys"]

    @classmethod
    def of(cls, keys: Tensor, log_masses: Tensor, values: Tensor, concentration: float, prior: float) -> KeyTable:
        """Prepares keys and values; all tensors are float32 on one device."""
        return cls(keys, log_masses, values, concentration, prior, values @ values.T)


@dataclass(frozen=True, eq=False)
class Weights:
    """Attention weights of latents.

    Attributes:
        indices: Indices of the keys, by descending weight; unused entries repeat the first key with weight 0.
        weights: Weights of these keys. Together with the prior's weight they sum to 1.
        priors: Weight of the prior.
        lengths: Length of the weighted sum of the values, without the prior.
    """

    indices: Int32[Tensor, "count neighbors"]
    weights: Float[Tensor, "count neighbors"]
    priors: Float[Tensor, " count"]
    lengths: Float[Tensor, " count"]


# Plain Tensor annotations: the kernels rely on shapes and types, so they are checked by hand.
@torch.no_grad()
def attend(table: KeyTable, latents: Tensor) -> Weights:
    """Computes the weights of the keys and of the prior for each latent (count, latent_dim), which may have any length.

    A zero latent has no direction, so only the masses decide its weights. On the CPU this runs in the compiled kernel
    if it is built, otherwise in torch.

    Raises:
        GenLangSplatError: There is no key, or shapes or types of the table and the latents do not fit.
    """
    num_keys, dim = _check_table(table)
    if latents.dim() != 2 or latents.shape[1] != dim:
        raise GenLangSplatError(
            f"The latents have the shape {tuple(latents.shape)}; expected (any, {dim}), because the keys have {dim} "
            "numbers each. Take the latents and the memory of one run."
        )
    if not _has_kernels(latents):
        return attend_in_torch(table, latents)
    latents, products = latents.float().contiguous(), table.products.contiguous()
    count = len(latents)
    padded = -(-num_keys // _LANES) * _LANES
    directions = F.pad(table.keys.T * (table.concentration / _LOG2), (0, padded - num_keys)).contiguous()
    biases = F.pad(table.log_masses / _LOG2, (0, padded - num_keys), value=float("-inf")).contiguous()
    result = Weights(
        torch.empty(count, NEIGHBORS, dtype=torch.int32),
        torch.empty(count, NEIGHBORS),
        torch.empty(count),
        torch.empty(count),
    )
    inputs = library.AttentionInputs(
        count=count,
        dim=latents.shape[1],
        latents=address(latents),
        keys=num_keys,
        padded=padded,
        directions=address(directions),
        biases=address(biases),
        products=address(products),
        prior=table.prior / _LOG2,
    )
    outputs = library.AttentionOutputs(
        *(address(tensor) for tensor in (result.indices, result.weights, result.priors, result.lengths))
    )
    library.load_kernels().run("attend", ctypes.byref(inputs), ctypes.byref(outputs))
    return result


def _check_table(table: KeyTable) -> tuple[int, int]:
    """Returns the number and the length of the keys; the kernels rely on all shapes and types."""
    num_keys = len(table.log_masses)
    shapes = [tuple(tensor.shape) for tensor in (table.keys, table.log_masses, table.products)]
    types = {tensor.dtype for tensor in (table.keys, table.log_masses, table.products)}
    dim = shapes[0][-1] if shapes[0] else 0
    if num_keys == 0 or shapes != [(num_keys, dim), (num_keys,), (num_keys, num_keys)] or types != {torch.float32}:
        raise GenLangSplatError(
            f"The keys, masses and products of the memory have the shapes {shapes} and the types "
            f"{sorted(map(str, types))}; expected at least one key, as many masses, all pairs of products, and "
            "float32. Run gen-langsplat lift again."
        )
    return num_keys, dim


def _has_kernels(rows: Tensor) -> bool:
    # On a GPU, torch does the work and the kernels need not be built.
    return rows.device.type == "cpu" and bool(library.available_instruction_sets())


@torch.no_grad()
def attend_in_torch(table: KeyTable, latents: Float[Tensor, "count latent_dim"]) -> Weights:
    """`attend` on any device."""
    parts = [_attend_rows(table, rows) for rows in latents.split(_ROWS)]
    return Weights(*(torch.cat([getattr(part, name) for part in parts]) for name in Weights.__dataclass_fields__))


def _attend_rows(table: KeyTable, latents: Tensor) -> Weights:
    unit = F.normalize(latents.float(), dim=-1)
    logits = table.concentration * (unit @ table.keys.T) + table.log_masses
    top, indices = logits.topk(min(NEIGHBORS, logits.shape[1]), dim=1)
    top = top.masked_fill(top < top[:, :1] + log(NEGLIGIBLE), float("-inf"))
    with_prior = torch.softmax(F.pad(top, (0, 1), value=table.prior), dim=1)
    weights, priors = with_prior[:, :-1], with_prior[:, -1]
    indices = torch.where(weights > 0, indices, indices[:, :1])
    pairs = table.products[indices[:, :, None], indices[:, None, :]]
    squares = (weights[:, :, None] * weights[:, None, :] * pairs).sum(dim=(1, 2))
    missing = NEIGHBORS - indices.shape[1]
    if missing:
        indices = torch.cat([indices, indices[:, :1].expand(-1, missing)], dim=1)
        weights = F.pad(weights, (0, missing))
    return Weights(indices.int(), weights.contiguous(), priors.contiguous(), squares.clamp_min(0).sqrt())


@torch.no_grad()
def weighted_sums(indices: Tensor, weights: Tensor, table: Tensor) -> Float[Tensor, "count columns"]:
    """Computes the weighted sum of the table rows (one for each key) that each latent attends to.

    Takes int32 indices and float32 weights, both (count, neighbors), and a float32 table (num_keys, columns). The
    weights descend; entries after the first weight of 0 are ignored.

    Raises:
        GenLangSplatError: The shapes or types do not fit, or an index is no row of the table.
    """
    fits = indices.shape == weights.shape == (len(weights), NEIGHBORS) and table.dim() == 2
    types = (indices.dtype, weights.dtype, table.dtype)
    if not fits or types != (torch.int32, torch.float32, torch.float32):
        raise GenLangSplatError(
            f"Indices, weights and table have the shapes {tuple(indices.shape)}, {tuple(weights.shape)} and "
            f"{tuple(table.shape)} and the types {types}; expected twice (count, {NEIGHBORS}) and a matrix, of int32, "
            "float32 and float32. Pass the results of attend."
        )
    if not _has_kernels(weights):
        return F.embedding_bag(indices, table, per_sample_weights=weights, mode="sum")
    if len(indices):
        lowest, highest = (int(end) for end in indices.aminmax())
        if lowest < 0 or highest >= len(table):
            raise GenLangSplatError(
                f"The indices lie in {lowest}..{highest}; expected 0..{len(table) - 1}, the rows of the table. Pass "
                "the table of the keys that attend got."
            )
    indices, weights, table = indices.contiguous(), weights.contiguous(), table.contiguous()
    sums = torch.empty(len(indices), table.shape[1])
    library.load_kernels().run(
        "attention_sums",
        ctypes.c_int64(len(indices)),
        ctypes.c_void_p(address(indices)),
        ctypes.c_void_p(address(weights)),
        ctypes.c_int64(table.shape[1]),
        ctypes.c_void_p(address(table)),
        ctypes.c_void_p(address(sums)),
    )
    return sums
