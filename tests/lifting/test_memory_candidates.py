"""The hyperparameters of a memory are selected by the log-likelihood of left-out views."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from genlangsplat_ns.lifting import memory_fit
from genlangsplat_ns.lifting.memory_fit import (
    CLEAR_GAIN,
    CONCENTRATIONS,
    EQUAL_LIKELIHOOD,
    LEFT_OUT_EVERY,
    MemoryCandidate,
    fit_memory,
    score_candidates,
    select_candidate,
)
from genlangsplat_ns.lifting.memory_regions import AGREEMENT_POWER, MIN_AGREEMENT, REGION_WEIGHT_POWER
from tests.language.memory_fakes import unit_rows
from tests.lifting.test_memory_fit import EMBEDDING_DIM, cosines, decode, encode, regions_of


def test_every_candidate_is_scored_and_the_selected_one_is_fitted() -> None:
    regions = regions_of(torch.arange(300) % 6, unit_rows(6, EMBEDDING_DIM, 2))
    candidates = score_candidates(regions)
    # The kept views have 240 regions.
    numbers = (128, 256)
    tried = [(item.use_reliability, item.num_keys, item.concentration) for item in candidates]
    assert tried == list(product((False, True), numbers, CONCENTRATIONS))
    best, memory = select_candidate(candidates), fit_memory(regions, "tiny/1")
    assert best in candidates
    assert float(memory.concentration) == best.concentration and len(memory) <= best.num_keys


def candidate(
    log_likelihood: float, use_reliability: bool = False, num_keys: int = 128, concentration: float = 60.0
) -> MemoryCandidate:
    return MemoryCandidate(use_reliability, num_keys, concentration, log_likelihood)


def test_reliability_is_used_only_where_it_is_a_clear_gain() -> None:
    area_alone = candidate(1.0)
    assert select_candidate([area_alone, candidate(1.0 + CLEAR_GAIN - 0.01, use_reliability=True)]) is area_alone
    helps = candidate(1.0 + CLEAR_GAIN + 0.01, use_reliability=True)
    assert select_candidate([area_alone, helps]) is helps


def test_the_simplest_of_equally_likely_candidates_is_selected() -> None:
    best, worse = candidate(1.0, num_keys=1024, concentration=120.0), candidate(0.9 - EQUAL_LIKELIHOOD)
    no_help = candidate(0.0, use_reliability=True)
    low = candidate(1.01 - EQUAL_LIKELIHOOD, num_keys=512)
    few = candidate(1.02 - EQUAL_LIKELIHOOD, concentration=90.0)
    assert select_candidate([best, worse, no_help]) is best
    assert select_candidate([best, worse, few, no_help]) is few
    assert select_candidate([best, worse, few, low, no_help]) is low, "a low concentration comes before few keys"


def test_regions_that_are_all_unreliable_still_give_a_memory() -> None:
    regions = regions_of(torch.arange(40) % 6, unit_rows(6, EMBEDDING_DIM, 2))
    least = 1e-3**REGION_WEIGHT_POWER * MIN_AGREEMENT**AGREEMENT_POWER
    regions = replace(regions, reliabilities=torch.full((40,), least))
    assert len(fit_memory(regions, "tiny/1")) > 6


def test_a_candidate_is_scored_on_the_regions_that_it_explains_best() -> None:
    regions = regions_of(torch.arange(300) % 6, unit_rows(6, EMBEDDING_DIM, 2), noise=0.2)
    wrong = torch.arange(300) % 5 == 4
    shuffled = regions.embeddings.clone()
    # A third of the regions of left-out views gets a random embedding.
    rows = wrong.nonzero().squeeze(-1)[::3]
    shuffled[rows] = unit_rows(len(rows), EMBEDDING_DIM, 9)
    sound, dirty = (
        max(item.log_likelihood for item in score_candidates(some))
        for some in (regions, replace(regions, embeddings=shuffled))
    )
    assert dirty == pytest.approx(sound, abs=0.3)


@pytest.mark.parametrize("view", [0, LEFT_OUT_EVERY - 1])
def test_the_regions_of_a_single_view_score_the_memory_that_is_fitted_to_them(view: int) -> None:
    truth = unit_rows(6, EMBEDDING_DIM, 2)
    regions = regions_of(torch.arange(40) % 6, truth)
    regions = replace(regions, views=torch.full((40,), view))
    assert {item.num_keys for item in score_candidates(regions)} == {128}
    assert cosines(decode(fit_memory(regions, "tiny/1"), encode(truth)), truth).min() > 0.8


def test_a_candidate_is_scored_on_a_bounded_number_of_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    attend = memory_fit.attend
    monkeypatch.setattr(memory_fit, "attend", lambda table, rows: (scored.append(len(rows)), attend(table, rows))[1])
    monkeypatch.setattr(memory_fit, "MAX_SCORED", 20)
    score_candidates(regions_of(torch.arange(300) % 6, unit_rows(6, EMBEDDING_DIM, 2)))
    assert set(scored) == {20}
