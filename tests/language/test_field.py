"""The language field answers everything from its latents, and computes each thing once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language import field as field_module
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.language.settings import SelectionSettings

AXES = torch.eye(4)
"""Embeddings of the things 0 to 3; latents and embeddings are the same here."""

ALL = SelectionSettings(clean_up=False)


def ask(*things: int, negative: int = 3, **settings: object) -> EmbeddedQuery:
    """Asks for things by their numbers."""
    query = TextQuery(tuple(f"thing {thing}" for thing in things), **settings)
    return EmbeddedQuery(query, AXES[list(things)], AXES[[negative]])


class CountedDecoder:
    """Decodes latents to themselves, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, latents: Tensor) -> Tensor:
        self.count += len(latents)
        return latents


def row_of_things(decode: object = lambda rows: rows) -> LanguageField:
    """Three things of ten Gaussians each side by side, and ten Gaussians that no region was ever seen on."""
    things = torch.arange(40) // 10
    means = torch.stack([torch.arange(40.0), torch.zeros(40), torch.zeros(40)], dim=1)
    latents = torch.where((things < 3)[:, None], AXES[things], 0.0)[:, None].repeat(1, 3, 1)
    return LanguageField(means, torch.full((40,), 0.9), latents, decode)


def places(keep: Tensor) -> list[int]:
    return keep.nonzero().squeeze(-1).tolist()


def test_each_thing_is_found_and_what_was_never_seen_is_not() -> None:
    field = row_of_things()
    for thing, answer in enumerate(field.find(ask(0, 1, 2), ALL)):
        assert places(answer.selection.keep) == list(range(10 * thing, 10 * thing + 10))
        assert answer.peak[0] // 10 == thing and answer.score > 0.9
        assert not answer.relevancy[30:].any()


def test_a_selection_joins_texts_grows_and_leaves_out() -> None:
    field = row_of_things()
    assert places(field.select(ask(0, 2), ALL).keep) == [*range(10), *range(20, 30)]
    assert places(field.select(ask(1), ALL, grow=2.0).keep) == list(range(8, 22))
    assert places(field.select(ask(0, 1), ALL, without=ask(1)).keep) == list(range(10))
    with pytest.raises(GenLangSplatError, match='"thing 0" above a relevancy of 1'):
        field.select(ask(0, threshold=1.0))


def test_gaussians_are_decoded_once_and_a_query_is_scored_once() -> None:
    decode = CountedDecoder()
    field = row_of_things(decode)
    query = ask(0)
    scores = field.relevancy(query)[0]
    assert decode.count == 30 * 3
    assert field.relevancy(query.with_threshold(0.1))[0] is scores, "a threshold changes no score"
    assert field.seen_scores(query) is field.seen_scores(query)
    field.relevancy(ask(1))
    assert decode.count == 30 * 3 and field.colors is field.colors


def test_many_texts_are_scored_in_batches_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    query = ask(0, 1, 2, level="auto")
    expected, levels = row_of_things().relevancy(query)
    monkeypatch.setattr(field_module, "MAX_SCORES", 1)
    scores, names = row_of_things().relevancy(query)
    assert torch.equal(scores, expected) and names == levels == ("subpart",) * 3


def test_other_latents_make_another_field_and_leave_this_one() -> None:
    field = row_of_things()
    other = field.with_latents(field.latents.flip(0))
    assert places(other.select(ask(0), ALL).keep) == list(range(30, 40))
    assert places(field.select(ask(0), ALL).keep) == list(range(10))


def test_peaks_are_the_groups_with_the_highest_relevancy_first() -> None:
    field = row_of_things()
    latents = field.latents.clone()
    latents[20:30] = F.normalize(AXES[0] + 0.5 * AXES[2], dim=-1)
    latents[10:20] = AXES[3]
    first, second = field.with_latents(latents).peaks(ask(0))
    assert first.center[0] == pytest.approx(4.5) and second.center[0] == pytest.approx(24.5)
    assert first.score > second.score and first.size == 9.0


def test_a_click_finds_what_resembles_the_thing_there() -> None:
    field = row_of_things()
    rendered = torch.stack([0.8 * AXES[1], torch.zeros(4), 0.5 * AXES[1]])
    assert field.embeddings_at(rendered, "mean").shape == (2, 4)
    assert field.embeddings_at(rendered, "whole").shape == (1, 4)
    with pytest.raises(GenLangSplatError, match="Click"):
        field.embeddings_at(rendered, "part")
    query = field.query_like(field.embeddings_at(rendered, "mean"), TextQuery(("this",)))
    assert places(field.select(query, ALL).keep) == list(range(10, 20))


def test_groups_are_described_at_a_known_level() -> None:
    field = row_of_things()
    groups = field.describe(ask(0, 1, 2), "whole", 3, 1)
    assert sorted(group.texts[0] for group in groups) == [0, 1, 2]
    with pytest.raises(GenLangSplatError, match='"middle"'):
        field.describe(ask(0), "middle", 3, 1)
