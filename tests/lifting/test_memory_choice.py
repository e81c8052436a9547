"""Trust, number of keys and concentration of a memory are chosen by what it says of views that it has not seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from genlangsplat_ns.lifting import memory_fit
from genlangsplat_ns.lifting.memory_fit import (
    AGREEMENT_POWER,
    CLEAR_GAIN,
    CONCENTRATIONS,
    EQUAL_EVIDENCE,
    LEAST_AGREEMENT,
    LEFT_OUT_EVERY,
    REGION_WEIGHT_POWER,
    MemoryChoice,
    choose_memory,
    fit_memory,
    judge_memories,
)
from tests.language.memory_fakes import unit_rows
from tests.lifting.test_memory_fit import EMBEDDING_DIM, cosines, decode, encode, regions_of


def test_every_choice_is_judged_and_one_of_them_is_fitted() -> None:
    regions = regions_of(torch.arange(300) % 6, unit_rows(6, EMBEDDING_DIM, 2))
    choices = judge_memories(regions)
    # 240 regions are in views that are not left out.
    numbers = (128, 256)
    tried = [(choice.trusting, choice.num_keys, choice.concentration) for choice in choices]
    assert tried == list(product((False, True), numbers, CONCENTRATIONS))
    best, memory = choose_memory(choices), fit_memory(regions, "tiny/1")
    assert best in choices
    assert float(memory.concentration) == best.concentration and len(memory) <= best.num_keys


def choice(evidence: float, trusting: bool = False, num_keys: int = 128, concentration: float = 60.0) -> MemoryChoice:
    return MemoryChoice(trusting, num_keys, concentration, evidence)


def test_trust_in_regions_counts_only_where_it_clearly_helps() -> None:
    area_alone = choice(1.0)
    assert choose_memory([area_alone, choice(1.0 + CLEAR_GAIN - 0.01, trusting=True)]) is area_alone
    helps = choice(1.0 + CLEAR_GAIN + 0.01, trusting=True)
    assert choose_memory([area_alone, helps]) is helps


def test_of_choices_that_are_about_as_good_the_simplest_is_taken() -> None:
    best, worse = choice(1.0, num_keys=1024, concentration=120.0), choice(0.9 - EQUAL_EVIDENCE)
    no_help = choice(0.0, trusting=True)
    low = choice(1.01 - EQUAL_EVIDENCE, num_keys=512)
    few = choice(1.02 - EQUAL_EVIDENCE, concentration=90.0)
    assert choose_memory([best, worse, no_help]) is best
    assert choose_memory([best, worse, few, no_help]) is few
    assert choose_memory([best, worse, few, low, no_help]) is low, "a low concentration comes before few keys"


def test_regions_that_are_all_hardly_trusted_are_remembered_all_the_same() -> None:
    regions = regions_of(torch.arange(40) % 6, unit_rows(6, EMBEDDING_DIM, 2))
    regions = replace(regions, trusts=torch.full((40,), 1e-3**REGION_WEIGHT_POWER * LEAST_AGREEMENT**AGREEMENT_POWER))
    assert len(fit_memory(regions, "tiny/1")) > 6


def test_a_choice_is_judged_by_what_it_explains_best() -> None:
    regions = regions_of(torch.arange(300) % 6, unit_rows(6, EMBEDDING_DIM, 2), noise=0.2)
    wrong = torch.arange(300) % 5 == 4
    shuffled = regions.embeddings.clone()
    # A third of the regions of left-out views means something else there.
    rows = wrong.nonzero().squeeze(-1)[::3]
    shuffled[rows] = unit_rows(len(rows), EMBEDDING_DIM, 9)
    sound, dirty = (
        max(choice.evidence for choice in judge_memories(some))
        for some in (regions, replace(regions, embeddings=shuffled))
    )
    assert dirty == pytest.approx(sound, abs=0.3)


@pytest.mark.parametrize("view", [0, LEFT_OUT_EVERY - 1])
def test_the_regions_of_a_single_view_are_judged_by_their_own_memory(view: int) -> None:
    truth = unit_rows(6, EMBEDDING_DIM, 2)
    regions = regions_of(torch.arange(40) % 6, truth)
    regions = replace(regions, views=torch.full((40,), view))
    assert {choice.num_keys for choice in judge_memories(regions)} == {128}
    assert cosines(decode(fit_memory(regions, "tiny/1"), encode(truth)), truth).min() > 0.8


def test_a_choice_is_judged_by_a_bounded_number_of_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    attend = memory_fit.attend
    monkeypatch.setattr(memory_fit, "attend", lambda table, rows: (judged.append(len(rows)), attend(table, rows))[1])
    monkeypatch.setattr(memory_fit, "MAX_JUDGED", 20)
    judge_memories(regions_of(torch.arange(300) % 6, unit_rows(6, EMBEDDING_DIM, 2)))
    assert set(judged) == {20}
