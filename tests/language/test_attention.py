"""Attention of latents over keys: a softmax over all keys, truncated to the largest weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.attention import (
    NEGLIGIBLE,
    NEIGHBORS,
    KeyTable,
    Weights,
    attend,
    attend_in_torch,
    weighted_sums,
)
from genlangsplat_ns.rasterization import library
from tests.language.memory_fakes import a_table, latents_about, unit_rows

NUMBERS_OF_KEYS = (1, 5, 16, 17, 300, 1024)


@pytest.fixture(params=library.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every instruction set of the kernels that this machine can run."""
    monkeypatch.setenv("GENLANGSPLAT_ISA", request.param)
    return request.param


@pytest.fixture
def threads() -> Iterator[None]:
    """Lets a test change torch's number of threads."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def weights_over_all_keys(table: KeyTable, latents: Tensor) -> tuple[Tensor, Tensor]:
    """A reference implementation: a softmax over all keys and the prior, one latent at a time, in double precision.

    Returns:
        Weights (count, num_keys) and the weight of the prior (count).
    """
    weights = torch.zeros(len(latents), len(table.keys), dtype=torch.float64)
    priors = torch.zeros(len(latents), dtype=torch.float64)
    for row, latent in enumerate(latents.double()):
        direction = latent / latent.norm() if latent.any() else latent
        logits = table.concentration * (table.keys.double() @ direction) + table.log_masses.double()
        order = sorted(range(len(logits)), key=lambda key: -float(logits[key]))
        kept = [key for key in order if logits[key] >= logits[order[0]] + log(NEGLIGIBLE)][:NEIGHBORS]
        highest = max(float(logits[order[0]]), table.prior)
        share = {key: exp(float(logits[key]) - highest) for key in kept}
        prior = exp(table.prior - highest)
        total = sum(share.values()) + prior
        for key, value in share.items():
            weights[row, key] = value / total
        priors[row] = prior / total
    return weights, priors


def spread(found: Weights, num_keys: int) -> Tensor:
    """Scatters weights to all keys, (count, num_keys)."""
    every = torch.zeros(len(found.weights), num_keys, dtype=torch.float64)
    return every.scatter_add_(1, found.indices.long(), found.weights.double())


def assert_same_weights(found: Weights, expected: Weights, num_keys: int) -> None:
    torch.testing.assert_close(spread(found, num_keys), spread(expected, num_keys), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.priors, expected.priors, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.lengths, expected.lengths, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_keys", NUMBERS_OF_KEYS)
@pytest.mark.usefixtures("instruction_set")
def test_weights_are_those_of_a_softmax_over_all_keys_and_the_prior(num_keys: int) -> None:
    table = a_table(num_keys)
    latents = latents_about(table.keys, 90)
    found = attend(table, latents)
    weights, priors = weights_over_all_keys(table, latents)
    torch.testing.assert_close(spread(found, num_keys), weights, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.priors.double(), priors, atol=1e-5, rtol=0)
    assert priors.min() < 0.01 and priors.max() > 0.1, "both sides of the prior are tried"


@pytest.mark.parametrize("num_keys", NUMBERS_OF_KEYS)
@pytest.mark.parametrize("concentration", [5.0, 60.0])
@pytest.mark.usefixtures("instruction_set")
def test_the_kernel_equals_torch(num_keys: int, concentration: float) -> None:
    table = a_table(num_keys, concentration=concentration)
    latents = torch.cat([latents_about(table.keys, 301), torch.zeros(2, 16)])
    found, expected = attend(table, latents), attend_in_torch(table, latents)
    assert_same_weights(found, expected, num_keys)
    for weights in (found, expected):
        assert weights.indices.shape == weights.weights.shape == (303, NEIGHBORS)


@pytest.mark.parametrize("latent_dim", [1, 3, 8, 33])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 257])
@pytest.mark.usefixtures("instruction_set")
def test_any_width_and_number_of_latents_works(latent_dim: int, count: int) -> None:
    table = a_table(40, latent_dim)
    latents = latents_about(table.keys, count)
    assert_same_weights(attend(table, latents), attend_in_torch(table, latents), 40)


@pytest.mark.parametrize("way", [attend, attend_in_torch])
def test_empty_input_gives_empty_weights(way) -> None:
    found = way(a_table(5), torch.zeros(0, 16))
    assert found.indices.shape == found.weights.shape == (0, NEIGHBORS)
    assert found.priors.shape == found.lengths.shape == (0,)


@pytest.mark.parametrize("way", [attend, attend_in_torch])
@settings(max_examples=20, deadline=None)
@given(exponent=st.floats(-6, 6), seed=st.integers(0, 1000))
def test_the_length_of_a_latent_does_not_matter(way, exponent: float, seed: int) -> None:
    table, latents = a_table(50), unit_rows(8, 16, seed)
    assert_same_weights(way(table, latents * 10**exponent), way(table, latents), 50)


@pytest.mark.parametrize("way", [attend, attend_in_torch])
@settings(max_examples=20, deadline=None)
@given(num_keys=st.integers(1, 60), concentration=st.floats(1, 240), seed=st.integers(0, 1000))
def test_weights_are_sorted_and_sum_to_one_with_the_prior(way, num_keys: int, concentration: float, seed: int) -> None:
    table = a_table(num_keys, concentration=concentration, seed=seed)
    found = way(table, torch.cat([latents_about(table.keys, 20), torch.zeros(1, 16)]))
    torch.testing.assert_close(found.weights.sum(dim=1) + found.priors, torch.ones(21))
    assert (found.weights.diff(dim=1) <= 0).all() and (found.weights >= 0).all()
    unused = found.weights == 0
    assert torch.equal(found.indices[unused], found.indices[:, :1].expand_as(unused)[unused])
    used = found.weights > 0
    for keys, some in zip(found.indices, used, strict=True):
        assert len(keys[some].unique()) == int(some.sum()), "no key counts twice"


@pytest.mark.usefixtures("instruction_set")
def test_the_weights_of_a_zero_latent_depend_on_the_masses_only() -> None:
    table = replace(a_table(5), prior=float("-inf"))
    masses = table.log_masses.exp().double()[None]
    for way in (attend, attend_in_torch):
        torch.testing.assert_close(spread(way(table, torch.zeros(1, 16)), 5), masses, atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_keys", NUMBERS_OF_KEYS)
@pytest.mark.usefixtures("instruction_set")
def test_lengths_are_those_of_the_weighted_sums(num_keys: int) -> None:
    table = a_table(num_keys)
    latents = latents_about(table.keys, 60)
    for found in (attend(table, latents), attend_in_torch(table, latents)):
        sums = weighted_sums(found.indices, found.weights, table.values)
        torch.testing.assert_close(found.lengths, sums.norm(dim=-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("columns", [1, 3, 16, 17, 384])
@pytest.mark.usefixtures("instruction_set")
def test_weighted_sums_are_those_of_an_embedding_bag(columns: int) -> None:
    table = a_table(300)
    found = attend(table, latents_about(table.keys, 50))
    of_keys = torch.randn(300, columns, generator=torch.Generator().manual_seed(1))
    expected = F.embedding_bag(found.indices.long(), of_keys, per_sample_weights=found.weights, mode="sum")
    torch.testing.assert_close(weighted_sums(found.indices, found.weights, of_keys), expected, atol=1e-5, rtol=1e-5)
    columns_apart = of_keys.T.contiguous().T
    assert torch.equal(
        weighted_sums(found.indices, found.weights, columns_apart),
        weighted_sums(found.indices, found.weights, of_keys),
    )


def test_sixteen_neighbors_suffice_for_clustered_keys() -> None:
    """An object seen in many views has many keys. With 25 keys each, a decoded direction changes by at most 0.1."""
    kinds = torch.arange(1000) % 40
    keys = F.normalize(unit_rows(40, 16, 0)[kinds] + 0.15 * unit_rows(1000, 16, 1), dim=-1)
    values = F.normalize(unit_rows(40, 64, 2)[kinds] + 0.4 * unit_rows(1000, 64, 3), dim=-1)
    table = KeyTable.of(keys, torch.full((1000,), -log(1000.0)), values, 60.0, float("-inf"))
    latents = F.normalize(keys[::3] + 0.1 * unit_rows(334, 16, 4), dim=-1)
    found = attend(table, latents)
    decoded = weighted_sums(found.indices, found.weights, values)
    every = torch.softmax(60.0 * latents @ keys.T, dim=1) @ values
    cosines = F.cosine_similarity(decoded, every, dim=-1)
    assert cosines.min() > 0.995 and cosines.mean() > 0.999
    assert (found.weights > 0).all(), "all neighbors are taken"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.usefixtures("instruction_set")
def test_latents_that_are_not_finite_do_not_affect_others(bad: float) -> None:
    table = a_table(100)
    latents = latents_about(table.keys, 11)
    broken = latents.clone()
    broken[::3, 2] = bad
    whole = torch.arange(11) % 3 != 0
    for way in (attend, attend_in_torch):
        found, expected = way(table, broken), way(table, latents)
        assert ((found.indices >= 0) & (found.indices < 100)).all()
        for name in ("indices", "weights", "priors", "lengths"):
            assert torch.equal(getattr(found, name)[whole], getattr(expected, name)[whole]), name
        weighted_sums(found.indices, found.weights, table.values)


@pytest.mark.usefixtures("threads")
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    table = a_table(100)
    latents = latents_about(table.keys, 9000)
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        found = attend(table, latents)
        results.append((found, weighted_sums(found.indices, found.weights, table.values)))
    (first, first_sums), (second, second_sums) = results
    assert torch.equal(first.indices, second.indices) and torch.equal(first.weights, second.weights)
    assert torch.equal(first.lengths, second.lengths) and torch.equal(first_sums, second_sums)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_agree() -> None:
    table = a_table(300)
    latents = latents_about(table.keys, 90)
    moved = KeyTable.of(table.keys.cuda(), table.log_masses.cuda(), table.values.cuda(), 60.0, table.prior)
    found, expected = attend(moved, latents.cuda()), attend(table, latents)
    on_cpu = Weights(found.indices.cpu(), found.weights.cpu(), found.priors.cpu(), found.lengths.cpu())
    assert_same_weights(on_cpu, expected, 300)
    sums = weighted_sums(found.indices, found.weights, moved.values).cpu()
    torch.testing.assert_close(sums, weighted_sums(expected.indices, expected.weights, table.values), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("num_keys", [1, 5, 15])
def test_keys_without_mass_leave_all_weight_to_the_prior(num_keys: int) -> None:
    """The padding of the keys to whole vectors has no mass either, and is no key."""
    table = replace(a_table(num_keys, latent_dim=5), log_masses=torch.full((num_keys,), -float("inf")), prior=0.0)
    found = attend(table, torch.randn(9, 5))
    assert int(found.indices.min()) >= 0 and int(found.indices.max()) < num_keys
    assert float(found.weights.max()) < 1e-30 and bool((found.priors == 1).all())


@pytest.mark.usefixtures("instruction_set")
def test_keys_that_are_not_finite_beside_keys_without_mass_choose_only_keys() -> None:
    table = a_table(5, latent_dim=3)
    keys, masses = table.keys.clone(), torch.full((5,), -float("inf"))
    keys[1:] = float("nan")
    found = attend(replace(table, keys=keys, log_masses=masses), torch.randn(6, 3))
    assert int(found.indices.min()) >= 0 and int(found.indices.max()) < 5


@pytest.mark.parametrize("latent_dim", [4, 6])
def test_latents_of_another_length_than_the_keys_are_refused(latent_dim: int) -> None:
    with pytest.raises(GenLangSplatError, match=r"expected \(any, 5\), because the keys have 5 numbers"):
        attend(a_table(7, latent_dim=5), torch.randn(3, latent_dim))


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": torch.zeros(0, 5), "log_masses": torch.zeros(0), "products": torch.zeros(0, 0)},
        {"keys": torch.randn(6, 5)},
        {"log_masses": torch.zeros(9)},
        {"products": torch.zeros(7, 6)},
        {"products": torch.zeros(7, 7, dtype=torch.float64)},
    ],
)
def test_tables_whose_parts_do_not_fit_are_refused(changes: dict[str, Tensor]) -> None:
    fields = vars(a_table(7, latent_dim=5)) | changes
    table = object.__new__(KeyTable)
    for name, value in fields.items():
        object.__setattr__(table, name, value)
    with pytest.raises(GenLangSplatError, match="keys, masses and products"):
        attend(table, torch.randn(3, 5))


@pytest.mark.parametrize(
    ("indices", "weights", "table", "message"),
    [
        (torch.full((2, 16), 4), torch.ones(2, 16), torch.ones(4, 3), "torch.int64"),
        (torch.full((2, 16), 4).int(), torch.ones(2, 16), torch.ones(4, 3), r"lie in 4\.\.4; expected 0\.\.3"),
        (torch.full((2, 16), -1).int(), torch.ones(2, 16), torch.ones(4, 3), r"lie in -1\.\.-1"),
        (torch.zeros(2, 8).int(), torch.ones(2, 8), torch.ones(4, 3), r"\(2, 8\)"),
        (torch.zeros(3, 16).int(), torch.ones(2, 16), torch.ones(4, 3), r"\(3, 16\), \(2, 16\)"),
        (torch.zeros(2, 16).int(), torch.ones(2, 16), torch.ones(0, 3), r"expected 0\.\.-1"),
        (torch.zeros(2, 16).int(), torch.ones(2, 16), torch.ones(4, 3).double(), "torch.float64"),
    ],
)
def test_sums_over_rows_that_do_not_exist_are_refused(indices, weights, table, message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        weighted_sums(indices, weights, table)
