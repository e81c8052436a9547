"""Compressed latents: bounds on the change of directions, and what must not change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.compression import (
    LATENTS,
    compress_latents,
    directions_agree,
    restore_latents,
)

LEVELS = 3


def make_latents(seed: int, width: int, sharpness: float = 1.0, count: int = 50) -> Tensor:
    """Unit latents; a higher sharpness makes a few components dominate. The last Gaussian has zero latents."""
    normal = torch.randn(count, LEVELS, width, generator=torch.Generator().manual_seed(seed))
    # The largest component is 1 before sharpening, because powers of small numbers would underflow.
    shares = normal / normal.abs().amax(dim=-1, keepdim=True)
    latents = normalize(shares.sign() * shares.abs() ** sharpness, dim=-1)
    latents[-1] = 0
    return latents


def sines(first: Tensor, second: Tensor) -> Tensor:
    """Sines of the angles between rows, in double precision to resolve small angles."""
    unit, other = normalize(first.double(), dim=-1), normalize(second.double(), dim=-1)
    return (other - (unit * other).sum(dim=-1, keepdim=True) * unit).norm(dim=-1)


@given(seed=st.integers(0, 1000), width=st.integers(1, 64), sharpness=st.floats(0.0, 8.0))
@settings(max_examples=60, deadline=None)
def test_directions_change_within_the_bound_and_zeros_do_not_change(seed: int, width: int, sharpness: float) -> None:
    latents = make_latents(seed, width, sharpness)
    bounds = {"fp16": 0.0005, "int8": (width - 1) ** 0.5 / 254 + 1e-6}
    for encoding, bound in bounds.items():
        compressed = compress_latents(latents, encoding)
        restored = compressed.restore()
        assert compressed.lengths is None
        assert float(sines(latents, restored)[:-1].max()) <= bound
        assert torch.equal(restored[-1], torch.zeros(LEVELS, width))
        assert torch.allclose(restored[:-1].norm(dim=-1), torch.ones(len(latents) - 1, LEVELS), atol=1e-6)


@pytest.mark.parametrize(("encoding", "size"), [("fp16", 2), ("int8", 1)])
def test_unit_latents_take_only_the_bytes_of_their_components(encoding: str, size: int) -> None:
    latents = make_latents(0, 16)
    (codes,) = compress_latents(latents, encoding).weights().values()
    assert codes.nbytes == latents.numel() * size


def test_the_bound_of_int8_is_nearly_reached() -> None:
    """All components except the largest are off by half a step, so the bound cannot be much smaller."""
    latents = torch.full((1, 1, 16), 0.5 / 127)
    latents[..., 0] = 1
    assert float(sines(latents, compress_latents(latents, "int8").restore())) > 0.9 * 15**0.5 / 254


def test_compressing_to_int8_twice_changes_nothing() -> None:
    once = compress_latents(make_latents(3, 16), "int8")
    assert torch.equal(compress_latents(once.restore(), "int8").codes, once.codes)


@pytest.mark.parametrize("encoding", ["fp16", "int8"])
def test_lengths_are_kept_if_they_are_not_one(encoding: str) -> None:
    """The paper's optimization gives latents of any length, and the lengths affect the blending in a pixel."""
    latents = make_latents(1, 16) * torch.rand(50, LEVELS, 1).add(0.1)
    restored = compress_latents(latents, encoding).restore()
    assert torch.allclose(restored.norm(dim=-1), latents.norm(dim=-1), rtol=1e-3)
    assert float(sines(latents, restored)[:-1].max()) <= 15**0.5 / 254


@pytest.mark.parametrize("encoding", ["fp16", "int8"])
@pytest.mark.parametrize("length", [1.0, 0.5])
def test_model_weights_are_compressed_and_restored(encoding: str, length: float) -> None:
    latents, means = make_latents(2, 16), torch.rand(50, 3)
    compressed = compress_latents(length * latents, encoding)
    weights = restore_latents({"gauss_params.means": means, **compressed.weights()})
    assert weights.keys() == {"gauss_params.means", LATENTS} and weights["gauss_params.means"] is means
    assert torch.equal(weights[LATENTS], compressed.restore())


def test_weights_without_compressed_latents_are_unchanged() -> None:
    for weights in ({"gauss_params.means": torch.zeros(2, 3)}, {LATENTS: make_latents(0, 4)}):
        assert restore_latents(weights) is weights


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(value: float) -> None:
    latents = make_latents(0, 16)
    latents[4, 1, 2] = latents[9, 0, 0] = value
    with pytest.raises(GenLangSplatError, match=r"2 latents contain NaN.*language phase"):
        compress_latents(latents, "int8")


def test_a_scene_without_latents_is_refused() -> None:
    with pytest.raises(GenLangSplatError, match="only zero latents"):
        compress_latents(torch.zeros(5, LEVELS, 16), "fp16")


def test_agreement_ignores_zero_latents() -> None:
    first = make_latents(5, 2)
    turned = torch.stack([-first[..., 1], first[..., 0]], dim=-1)
    second = first.clone()
    second[7, 1] = turned[7, 1]
    same, other = directions_agree(first, first), directions_agree(first, second)
    assert same.mean == pytest.approx(1) and same.worst == pytest.approx(1)
    assert other.mean == pytest.approx(1 - 1 / (49 * LEVELS)) and other.worst == pytest.approx(0, abs=1e-6)
    decoded = directions_agree(first, second, lambda latents: latents.abs())
    assert decoded.worst > 0
