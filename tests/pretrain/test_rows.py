"""Training rows: checks, order and mixing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.mixtures import MixtureSampler
from pretrain.rows import check_unit_rows, mix_rows
from pretrain.tensor_source import TensorSource
from tests.pretrain.training_fakes import unit_rows


def numbered(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit rows that are identified by the position of their maximum."""
    return torch.eye(count, dtype=dtype)


def numbers(rows: Tensor) -> list[int]:
    return rows.argmax(dim=-1).tolist()


@pytest.mark.parametrize(
    ("value", "kind"), [(0.0, "zero"), (float("nan"), "not finite"), (float("inf"), "not finite"), (3.0, "of length")]
)
def test_a_bad_row_is_refused_by_its_number_and_kind(value: float, kind: str) -> None:
    rows = unit_rows(6, seed=0)
    rows[4] = value
    with pytest.raises(GenLangSplatError, match=rf"somewhere gave 1 bad rows of 6; the first is row 4, .*{kind}"):
        check_unit_rows(rows, 24, "somewhere")


def test_one_value_that_is_not_a_number_is_enough() -> None:
    rows = unit_rows(6, seed=0)
    rows[2, 7] = float("nan")
    with pytest.raises(GenLangSplatError, match="row 2, which is not finite"):
        check_unit_rows(rows, 24, "somewhere")


def test_rows_of_half_precision_pass_and_other_widths_or_none_do_not() -> None:
    check_unit_rows(unit_rows(50, seed=0).half(), 24, "somewhere")
    with pytest.raises(GenLangSplatError, match=r"6 rows of width 24, but .* width 25"):
        check_unit_rows(unit_rows(6, seed=0), 25, "somewhere")
    with pytest.raises(GenLangSplatError, match="0 rows"):
        check_unit_rows(unit_rows(0, seed=0), 24, "somewhere")


def test_mixing_keeps_each_row_nearest_to_itself_and_moves_it_towards_one_other() -> None:
    rows = numbered(40)
    mixed = mix_rows(rows, 0.5, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed.norm(dim=-1), torch.ones(40))
    assert numbers(mixed) == list(range(40))
    assert ((mixed > 0).sum(dim=-1) == 2).all()
    shares = mixed.sort(dim=-1).values[:, -2] / mixed.sum(dim=-1)
    assert shares.max() <= 0.5 and shares.max() > 0.4 and shares.min() < 0.1


def test_noise_alone_is_of_the_asked_size_and_leaves_unit_rows() -> None:
    rows = F.normalize(torch.randn(200, 100, generator=torch.Generator().manual_seed(1)), dim=-1)
    noisy = mix_rows(rows, 0.0, 0.01, torch.Generator().manual_seed(0))
    # The 99 noise components orthogonal to a row rotate it by an angle of about 0.01 sqrt(99).
    tilt = (noisy - rows).norm(dim=-1).mean().item()
    assert tilt == pytest.approx(0.01 * 99**0.5, rel=0.05)
    torch.testing.assert_close(noisy.norm(dim=-1), torch.ones(200))


def test_a_single_row_has_nothing_to_be_mixed_with() -> None:
    torch.testing.assert_close(mix_rows(numbered(1), 0.5, 0.0, torch.Generator()), numbered(1))


def test_an_epoch_deals_every_row_once_and_the_next_in_another_order() -> None:
    source = TensorSource(numbered(10), seed=1)
    first, second = (numbers(source(10)) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_a_batch_may_span_epochs() -> None:
    counts = torch.bincount(torch.tensor(numbers(TensorSource(numbered(10))(35))))
    assert sorted(counts.tolist()) == [3] * 5 + [4] * 5


def test_processes_deal_together_what_one_deals_alone() -> None:
    together = [TensorSource(numbered(11), seed=4, rank=rank, world_size=3) for rank in range(3)]
    alone = TensorSource(numbered(11), seed=4)
    for _ in range(6):
        assert sorted(number for source in together for number in numbers(source(2))) == sorted(numbers(alone(6)))


def test_a_source_goes_on_where_its_state_was_taken() -> None:
    source = TensorSource(numbered(10), seed=1)
    source(13)
    state = source.state_dict()
    other = TensorSource(numbered(10), seed=1)
    other.load_state_dict(state)
    assert numbers(other(30)) == numbers(source(30))


def test_the_state_of_other_rows_or_another_seed_is_refused() -> None:
    state = TensorSource(numbered(10), seed=1).state_dict()
    for other in (TensorSource(numbered(10), seed=2), TensorSource(numbered(9), seed=1)):
        with pytest.raises(GenLangSplatError, match="10 rows and seed 1"):
            other.load_state_dict(state)


def test_stored_half_precision_comes_out_as_unit_rows_in_full() -> None:
    rows = TensorSource((3 * unit_rows(8, seed=0)).half())(8)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(8))


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_source_refuses_rows_without_a_direction(value: float) -> None:
    rows = unit_rows(6, seed=0)
    rows[[3, 5]] = value
    with pytest.raises(GenLangSplatError, match="2 of 6 embeddings are zero or not finite, the first at row 3"):
        TensorSource(rows)


def test_a_source_needs_rows_and_a_rank_that_exists() -> None:
    with pytest.raises(GenLangSplatError, match="at least one"):
        TensorSource(unit_rows(0, seed=0))
    with pytest.raises(GenLangSplatError, match="between 0 and 1, got 2"):
        TensorSource(unit_rows(5, seed=0), rank=2, world_size=2)


def test_the_mixture_sampler_goes_on_where_its_state_was_taken() -> None:
    def sampler(seed: int) -> MixtureSampler:
        generator = torch.Generator().manual_seed(99)
        classes, weight = (torch.randn(40, width, generator=generator) for width in (24, 16))
        return MixtureSampler(classes, weight, torch.zeros(40), seed)

    first = sampler(1)
    first(10)
    state = first.state_dict()
    expected = first(10)
    again = sampler(1)
    again.load_state_dict(state)
    torch.testing.assert_close(again(10), expected, rtol=0, atol=0)
